//! Progress bars on stderr, where it is a terminal: one for the cycle, and one for each pull under
//! way. Log lines appear above them.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::terminal::shorten;
use crate::clock;
use crate::clock::Instant;
use crate::cycle::progress::Progress;
use crate::pull::Pace;
use crate::telemetry;

const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
const NAME_WIDTH: usize = 24;

/// Shows the progress of a cycle until the sender is dropped. The returned task ends when the bars
/// are removed.
pub(super) fn show(mut progress: watch::Receiver<Progress>) -> JoinHandle<()> {
    tokio::spawn(async move {
        if !telemetry::bars_are_shown() {
            return;
        }
        let mut bars = CycleBars::new();
        let mut tick = clock::interval(REDRAW_INTERVAL);
        loop {
            tokio::select! {
                _ = tick.tick() => bars.draw(&progress.borrow().clone()),
                changed = progress.changed() => if changed.is_err() { break },
            }
        }
        bars.clear();
    })
}

struct CycleBars {
    started: Instant,
    total: ProgressBar,
    /// One for each pull under way.
    pulls: Vec<(Arc<Pace>, ProgressBar)>,
}

impl CycleBars {
    fn new() -> Self {
        let total = telemetry::bars().add(ProgressBar::new(0));
        total.set_style(style("{spinner} reading the roster and the warehouse"));
        Self { started: Instant::now(), total, pulls: Vec::new() }
    }

    fn draw(&mut self, progress: &Progress) {
        self.pulls.retain(|(pace, bar)| {
            let is_running = progress.pulls.iter().any(|pull| Arc::ptr_eq(&pull.pace, pace));
            if !is_running {
                bar.finish_and_clear();
            }
            is_running
        });
        for pull in &progress.pulls {
            if !self.pulls.iter().any(|(pace, _)| Arc::ptr_eq(pace, &pull.pace)) {
                let bar = telemetry::bars().insert_before(&self.total, ProgressBar::no_length());
                bar.set_prefix(shorten(&pull.name, NAME_WIDTH));
                self.pulls.push((pull.pace.clone(), bar));
            }
        }
        for (pace, bar) in &self.pulls {
            draw_pull(pace, bar);
        }
        if progress.total > 0 {
            self.draw_total(progress);
        }
        self.total.tick();
    }

    /// Draws the bar of all: a pull under way counts for as much as has come of it.
    fn draw_total(&self, progress: &Progress) {
        let under_way: u64 = progress.pulls.iter().map(|pull| thousandths(&pull.pace)).sum();
        let received: u64 = progress.pulls.iter().map(|pull| pull.pace.received()).sum();
        let (done, of) = (progress.done * 1000 + under_way, progress.total * 1000);
        self.total.set_style(style("{bar:24} {msg}"));
        self.total.set_length(of);
        self.total.set_position(done.min(of));
        let pace =
            Progressed { done, of, resources: progress.resources + received, took: self.started.elapsed() };
        let counts = format!("{}/{} patients", progress.done, progress.total);
        self.total.set_message(format!("{counts}  {}", pace.describe()));
    }

    fn clear(self) {
        for (_, bar) in self.pulls {
            bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

/// How far a cycle has come, and how long that took.
struct Progressed {
    /// In thousandths of a patient.
    done: u64,
    of: u64,
    resources: u64,
    took: Duration,
}

/// What is left is not told of less than this.
const GUESS_AFTER: Duration = Duration::from_secs(2);

impl Progressed {
    /// Returns how many resources there are, how fast they come, and how long the rest may take.
    fn describe(&self) -> String {
        let Self { done, of, resources, took } = *self;
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = resources.saturating_mul(1000) / millis;
        let text = format!("{resources} resources, {rate}/s");
        // Of less than a fiftieth, nothing can be told.
        if took < GUESS_AFTER || done.saturating_mul(50) < of || of <= done {
            return text;
        }
        let left = Duration::from_millis(millis.saturating_mul(of - done) / done.max(1));
        format!("{text}, {} left", crate::service::span(left))
    }
}

/// Returns how much of a pull has come, where the server has said how much there is.
fn thousandths(pace: &Pace) -> u64 {
    let total = pace.total().unwrap_or(0);
    pace.received().min(total).saturating_mul(1000).checked_div(total).unwrap_or(0)
}

/// Draws the bar of a pull. Before the first page, and with a server that sends no `total`, it has
/// no length.
fn draw_pull(pace: &Pace, bar: &ProgressBar) {
    if let Some(total) = pace.total() {
        bar.set_style(style("  {prefix:24} {bar:20} {pos}/{len}"));
        bar.set_length(total);
    } else {
        let what = if pace.received() == 0 { "waiting for the first page" } else { "{pos} entries" };
        bar.set_style(style(&format!("  {{prefix:24}} {{spinner}} {what}")));
    }
    bar.set_position(pace.received());
    bar.tick();
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Makes a bar over a number of steps, hidden where stderr is no terminal.
pub(super) fn steps(count: usize, what: &str) -> ProgressBar {
    if !telemetry::bars_are_shown() {
        return ProgressBar::hidden();
    }
    let bar = telemetry::bars().add(ProgressBar::new(count as u64));
    bar.set_style(style(&format!("{{bar:30}} {{pos}}/{{len}} {what}  {{msg}}  {{elapsed}}")));
    bar.enable_steady_tick(REDRAW_INTERVAL);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_once_it_can_be() {
        let told = |done, seconds| {
            let took = Duration::from_secs(seconds);
            Progressed { done, of: 4_000, resources: 3_000, took }.describe()
        };
        assert_eq!(told(1_000, 1), "3000 resources, 3000/s");
        assert_eq!(told(10, 10), "3000 resources, 300/s");
        assert_eq!(told(1_000, 10), "3000 resources, 300/s, 30 s left");
        assert_eq!(told(4_000, 10), "3000 resources, 300/s");
    }
}
