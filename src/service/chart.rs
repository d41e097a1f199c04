//! Draws the last cycles as bars: how long each took, and how it ended.

use std::collections::VecDeque;

use maud::{Markup, html};

use super::format::moment;
use super::health::CycleVerdict;
use super::state::CycleRecord;

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

pub(super) fn bars(cycles: &VecDeque<CycleRecord>) -> Markup {
    let longest = cycles.iter().map(|cycle| cycle.took.as_secs_f64()).fold(0.0, f64::max);
    let width = BARS_MAX * BAR_STEP;
    let shown = cycles.len().min(BARS_MAX as usize);
    let first = BARS_MAX - u32::try_from(shown).unwrap_or(BARS_MAX);
    html! {
        svg viewBox=(format!("0 0 {width} 78")) role="img" aria-label=(format!("The last {shown} cycles; the longest took {longest:.1} s")) {
            line.axis x1="0" x2=(width) y1="75" y2="75" {}
            @for (place, cycle) in (first..).zip(cycles.iter().skip(cycles.len() - shown)) {
                @let height = height(cycle.took.as_secs_f64(), longest);
                rect class=(cycle.verdict.as_str()) x=(place * BAR_STEP) width=(BAR_WIDTH) rx="2"
                    y=(format!("{:.1}", 74.0 - height)) height=(format!("{height:.1}")) {
                    title { (description(cycle)) }
                }
            }
        }
        div.key {
            @for (class, word) in LEGEND.iter().filter(|(class, _)| cycles.iter().any(|cycle| cycle.verdict.as_str() == *class)) {
                span { svg viewBox="0 0 10 10" aria-hidden="true" { rect class=(class) width="10" height="10" rx="2" {} } (word) }
            }
            span { "longest: " (format!("{longest:.1} s")) }
        }
    }
}

fn description(cycle: &CycleRecord) -> String {
    let took = cycle.took.as_secs_f64();
    let how = match &cycle.verdict {
        CycleVerdict::Bad(why) => why.as_str(),
        verdict => verdict.as_str(),
    };
    let patients = cycle.patients;
    format!(
        "{}: {how}, {took:.1} s, {} ok, {} failed",
        moment(cycle.started_at),
        patients.ok,
        patients.failed
    )
}

/// Scales by the square root, so that a short cycle beside a very long one still has a height.
fn height(took: f64, longest: f64) -> f64 {
    if longest <= 0.0 { BAR_MIN } else { ((took / longest).sqrt() * HEIGHT).max(BAR_MIN) }
}
