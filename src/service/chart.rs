//! Draws the last cycles as bars: how long each took, and how it ended.

use std::collections::VecDeque;

use maud::{Markup, html};

use super::format::{elapsed, moment};
use super::told_cycle::counts;
use crate::plan::Timestamp;
use crate::plan::verdict::CycleVerdict;
use crate::warehouse::service::PastCycle;

const BARS_MAX: u32 = 48;
const BAR_WIDTH: u32 = 12;
const BAR_STEP: u32 = 15;
const HEIGHT: f64 = 70.0;
/// Even a cycle that took no time is visible.
const BAR_MIN: f64 = 3.0;

/// The class of a bar, and its legend.
const LEGEND: [(&str, &str); 4] = [
    ("good", "good"),
    ("partly", "some patients need a look"),
    ("bad", "failed"),
    ("idle", "nobody due, or interrupted"),
];

/// Between two cycles of which the second began so many usual intervals later, there is a gap.
const GAP_INTERVALS: i64 = 4;

pub(super) fn bars(cycles: &VecDeque<PastCycle>) -> Markup {
    let longest = cycles.iter().map(|cycle| cycle.took.as_secs_f64()).fold(0.0, f64::max);
    let width = BARS_MAX * BAR_STEP;
    let shown: Vec<&PastCycle> = cycles.iter().rev().take(BARS_MAX as usize).rev().collect();
    let count = shown.len();
    let first = BARS_MAX - u32::try_from(count).unwrap_or(BARS_MAX);
    let (gaps, ticks) = (gaps(&shown), ticks(&shown));
    // One by itself is of the last bar, which may have less room below it than a time takes.
    let before = if ticks.len() < 2 { 0.0 } else { f64::from(first) / f64::from(BARS_MAX) * 100.0 };
    html! {
        svg viewBox=(format!("0 0 {width} 78")) role="img" aria-label=(format!("The last {count} cycles; the longest took {longest:.1} s")) {
            line.axis x1="0" x2=(width) y1="75" y2="75" {}
            @for (place, cycle) in (first..).zip(&shown) {
                @let height = height(cycle.took.as_secs_f64(), longest);
                rect class=(cycle.verdict.as_str()) x=(place * BAR_STEP) width=(BAR_WIDTH) rx="2"
                    y=(format!("{:.1}", 74.0 - height)) height=(format!("{height:.1}")) {
                    title { (description(cycle)) }
                }
            }
            @for (place, text) in &gaps {
                @let x = f64::from((first + place) * BAR_STEP) - f64::from(BAR_STEP - BAR_WIDTH) / 2.0;
                line.gap x1=(x) x2=(x) y1="2" y2="75" { title { (text) } }
            }
        }
        div.times style=(format!("padding-left: {before:.1}%")) {
            @for moment in ticks { span { (moment) } }
        }
        div.key {
            @for (class, word) in LEGEND.iter().filter(|(class, _)| cycles.iter().any(|cycle| cycle.verdict.as_str() == *class)) {
                span { svg viewBox="0 0 10 10" aria-hidden="true" { rect class=(class) width="10" height="10" rx="2" {} } (word) }
            }
            @for (_, text) in &gaps { span { "┊ " (text) } }
            span { "longest: " (format!("{longest:.1} s")) }
        }
    }
}

/// The times below the bars: of the first, the last and, where there is room, one between them.
fn ticks(shown: &[&PastCycle]) -> Vec<String> {
    const ROOM_FOR_TWO: usize = 16;
    const ROOM_FOR_THREE: usize = 40;
    let places = match shown.len() {
        0 => Vec::new(),
        1..ROOM_FOR_TWO => vec![shown.len() - 1],
        ROOM_FOR_TWO..ROOM_FOR_THREE => vec![0, shown.len() - 1],
        many => vec![0, many / 2, many - 1],
    };
    // Month, day, hour and minute.
    let short = |cycle: &PastCycle| moment(cycle.started_at)[5..16].to_owned();
    places.into_iter().map(|place| short(shown[place])).collect()
}

/// Where, before which bar, there was no cycle for much longer than usual, and for how long.
fn gaps(shown: &[&PastCycle]) -> Vec<(u32, String)> {
    let pairs = || shown.windows(2).map(|pair| (pair[0].started_at, pair[1].started_at));
    let mut usual: Vec<_> = pairs().map(|(before, after)| (after - before).num_seconds()).collect();
    usual.sort_unstable();
    let Some(usual) = usual.get(usual.len() / 2).copied() else { return Vec::new() };
    let gap = |(place, (before, after)): (u32, (Timestamp, Timestamp))| {
        let is_gap = (after - before).num_seconds() > usual * GAP_INTERVALS + GAP_MIN_SECONDS;
        is_gap.then(|| (place, format!("no cycle for {} before {}", elapsed(after, before), moment(after))))
    };
    let mut gaps: Vec<(u32, String)> = (1..).zip(pairs()).filter_map(gap).collect();
    // The latest are the interesting ones.
    gaps.drain(..gaps.len().saturating_sub(GAPS_MAX));
    gaps
}

/// A shorter silence is not remarkable.
const GAP_MIN_SECONDS: i64 = 600;
const GAPS_MAX: usize = 3;

fn description(cycle: &PastCycle) -> String {
    let took = cycle.took.as_secs_f64();
    let how = match &cycle.verdict {
        CycleVerdict::Bad(why) => why.as_str(),
        verdict => verdict.as_str(),
    };
    format!("{}: {how}, {took:.1} s, {}", moment(cycle.started_at), counts(cycle.patients))
}

/// Scales by the square root, so that a short cycle beside a very long one still has a height.
fn height(took: f64, longest: f64) -> f64 {
    if longest <= 0.0 { BAR_MIN } else { ((took / longest).sqrt() * HEIGHT).max(BAR_MIN) }
}
