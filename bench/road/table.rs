//! The table: the measurements, round by round, and the ratios that are wanted of them.
//!
//! A ratio is taken within each round, where both of its sides met the same machine, and its
//! median over the rounds is what is judged.

use std::fmt::Write as _;

use crate::process::Cost;

/// One quantity, as often as it was measured.
pub(crate) struct Measured {
    what: String,
    /// The unit that the rates count.
    unit: &'static str,
    rates: Vec<f64>,
    rss_bytes: u64,
    written_bytes: u64,
    /// A remark behind the figures, such as how many rows arrived.
    pub(crate) note: String,
    /// Whether ratios to it mean anything.
    pub(crate) counts: bool,
    rss_at_most: Option<u64>,
    ratios: Vec<Ratio>,
}

struct Ratio {
    of: String,
    each: Vec<f64>,
    /// The least that performance.md asks for.
    wanted: Option<f64>,
    /// Far less, which only a mistake misses. Missing it fails the run.
    guard: Option<f64>,
}

impl Measured {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            unit,
            rates: Vec::new(),
            rss_bytes: 0,
            written_bytes: 0,
            note: String::new(),
            counts: true,
            rss_at_most: None,
            ratios: Vec::new(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn add(&mut self, count: usize, cost: Cost) {
        self.rates.push(count as f64 / cost.seconds);
        self.rss_bytes = self.rss_bytes.max(cost.rss_bytes);
        self.written_bytes = cost.written_bytes;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rates.is_empty()
    }

    /// Adds the ratio to another quantity of the same rounds. One that was measured in fewer rounds
    /// is compared with the median of all rounds of the other.
    pub(crate) fn against(&mut self, other: &Self, of: impl Into<String>) -> &mut Self {
        let each: Vec<f64> = if self.rates.len() < other.rates.len() {
            self.rates.iter().map(|one| one / other.median()).collect()
        } else {
            self.rates.iter().zip(&other.rates).map(|(one, other)| one / other).collect()
        };
        if !each.is_empty() && other.counts {
            self.ratios.push(Ratio { of: of.into(), each, wanted: None, guard: None });
        }
        self
    }

    /// Sets the memory it may take.
    pub(crate) fn rss_at_most(&mut self, bytes: u64) {
        self.rss_at_most = Some(bytes);
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.rates)
    }

    /// Sets what the last ratio should be.
    pub(crate) fn wanted(&mut self, at_least: f64) -> &mut Self {
        if let Some(ratio) = self.ratios.last_mut() {
            ratio.wanted = Some(at_least);
        }
        self
    }

    /// Sets what the last ratio must be.
    pub(crate) fn guard(&mut self, at_least: f64) -> &mut Self {
        if let Some(ratio) = self.ratios.last_mut() {
            ratio.guard = Some(at_least);
        }
        self
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    fn lines(&self) -> String {
        let median = self.median();
        let (least, most) = ends(&self.rates);
        let mut lines = format!(
            "{:52} {:>9} {:>19} {:11}",
            self.what,
            thousands(median),
            format!("{}–{}", thousands(least), thousands(most)),
            self.unit,
        );
        let mega = |bytes: u64, unit: u64| {
            if bytes == 0 { "–".to_owned() } else { thousands(float(bytes / unit)) }
        };
        let _ = writeln!(
            lines,
            " {:>7} {:>9}  {}",
            mega(self.rss_bytes, 1 << 20),
            mega(self.written_bytes, 1_000_000),
            self.note
        );
        for Ratio { of, each, wanted, .. } in &self.ratios {
            let (least, most) = ends(each);
            let text = format!("{of} ({least:.2}–{most:.2})");
            let _ = write!(lines, "    {:>6.2} × {text:60}", self::median(each));
            if let Some(at_least) = wanted {
                let met = if self::median(each) < *at_least { "NOT MET" } else { "met" };
                let _ = write!(lines, " wanted {at_least:>5.2}: {met}");
            }
            lines.truncate(lines.trim_end().len());
            lines.push('\n');
        }
        if let Some(most) = self.rss_at_most {
            let met = if most < self.rss_bytes { "NOT MET" } else { "met" };
            let text = format!("{} MB of memory", self.rss_bytes / 1_000_000);
            let _ = writeln!(lines, "           {text:60} wanted at most {}: {met}", most / 1_000_000);
        }
        lines
    }
}

/// Prints all measurements as text.
pub(crate) fn print(title: &str, all: &[Measured]) -> String {
    let mut text = format!("{title}\n\n");
    let _ = writeln!(
        text,
        "{:52} {:>9} {:>19} {:11} {:>7} {:>9}",
        "", "median", "least–most", "a second", "RSS MiB", "disk MB"
    );
    for one in all.iter().filter(|one| !one.is_empty()) {
        text.push_str(&one.lines());
    }
    text
}

/// Returns the guards that were not met.
pub(crate) fn failed_guards(all: &[Measured]) -> Vec<String> {
    let ratios = all.iter().flat_map(|one| one.ratios.iter().map(move |ratio| (one, ratio)));
    ratios
        .filter_map(|(one, ratio)| {
            let at_least = ratio.guard?;
            let median = median(&ratio.each);
            (median < at_least)
                .then(|| format!("{} is {median:.2} × {}, and must be {at_least:.2}", one.what, ratio.of))
        })
        .collect()
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

fn ends(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(*value), most.max(*value)))
}

#[expect(clippy::cast_precision_loss, reason = "megabytes")]
fn float(number: u64) -> f64 {
    number as f64
}

/// Writes `12,345`. Small numbers keep two digits behind the point.
fn thousands(number: f64) -> String {
    if number < 10.0 {
        return format!("{number:.2}");
    }
    let digits = format!("{number:.0}");
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap());
    groups.collect::<Vec<_>>().join(",")
}
