//! The status page: is all well, in one sentence, and then why.
//!
//! Rendered here, readable without scripts, no asset from elsewhere. Labels rather than ids, and
//! nothing clinical: all it shows is what `Glance` and the board hold.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::board::{CycleMark, State};
use super::problems::{Problem, hours};
use super::{chart, health};
use crate::cycle::progress::Progress;
use crate::plan::{Timestamp, stamp};
use crate::warehouse::glance::{Glance, Worrying};

const STYLE: &str = include_str!("page.css");
const REFRESH_SECONDS: u32 = 15;
/// While a cycle runs.
const REFRESH_SECONDS_BUSY: u32 = 3;

/// In the order an operator reads them.
const STATES: [(&str, &str); 7] = [
    ("active", "active"),
    ("new", "new"),
    ("failing", "failing"),
    ("held", "held"),
    ("not_found", "not found"),
    ("revoked", "revoked"),
    ("paused", "paused"),
];

/// All there is to see.
pub(super) struct Sight<'s> {
    pub(super) state: &'s State,
    pub(super) progress: &'s Progress,
    /// Or why the warehouse could not be looked at.
    pub(super) glance: Result<&'s Glance, &'s String>,
    pub(super) now: Timestamp,
}

/// The sentence, and its colour.
struct Mood {
    colour: &'static str,
    sentence: String,
}

pub(super) fn render(sight: &Sight<'_>) -> Markup {
    let mood = mood(sight);
    let refresh = if sight.state.under_way_since.is_some() { REFRESH_SECONDS_BUSY } else { REFRESH_SECONDS };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content=(refresh);
                title { (if mood.colour == "good" { "✓" } else { "!" }) " healthex-sync" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header { span { "healthex-sync " (env!("CARGO_PKG_VERSION")) } span { (moment(sight.now)) ", renewed every " (refresh) " s" } }
                    h1 style=(format!("--mood: var(--{})", mood.colour)) { (mood.sentence) }
                    (cycle_under_way(sight))
                    (problems(sight.state))
                    @match sight.glance {
                        Ok(glance) => {
                            (patients(glance))
                            (held(glance))
                            (cycles(sight))
                            (worrying(glance, sight.now))
                            (warehouse(glance, sight.now))
                        }
                        Err(why) => {
                            section { h2 { "Warehouse" } p { (why) } }
                            (cycles(sight))
                        }
                    }
                }
            }
        }
    }
}

fn mood(sight: &Sight<'_>) -> Mood {
    let state = sight.state;
    let ago = |at: Timestamp| format!("{} ago", span(sight.now, at));
    let last = state.last_good_end.map_or_else(|| "never".to_owned(), ago);
    if let Some(until) = state.paused_until {
        let sentence = format!(
            "HealthEx does not answer. It is asked again at {}; what is stored stays as it was.",
            moment(until)
        );
        return Mood { colour: "bad", sentence };
    }
    if !state.problems.is_empty() {
        let titles: Vec<&str> = state.problems.keys().map(|problem| problem.title()).collect();
        let sentence =
            format!("This needs a person: {}. The last good cycle ended {last}.", titles.join("; "));
        return Mood { colour: "bad", sentence };
    }
    if let Some(reason) = health::unwell(&state.settings.sync.schedule, state.last_good_end, sight.now) {
        if let Some(since) = state.under_way_since {
            let sentence = format!("A cycle is under way since {}; {reason}.", moment(since));
            return Mood { colour: "partly", sentence };
        }
        if state.cycles.is_empty() && state.last_good_end.is_none() {
            return Mood {
                colour: "partly",
                sentence: "Started; the first cycle is still to come.".to_owned(),
            };
        }
        return Mood { colour: "bad", sentence: format!("Not well: {reason}.") };
    }
    let Ok(glance) = sight.glance else {
        return Mood { colour: "bad", sentence: "The warehouse cannot be looked at.".to_owned() };
    };
    match glance.worrying_total {
        0 => Mood { colour: "good", sentence: format!("All is well: the last cycle ended well {last}.") },
        1 => Mood {
            colour: "partly",
            sentence: format!("Running; one patient needs a look. The last cycle ended {last}."),
        },
        many => Mood {
            colour: "partly",
            sentence: format!("Running; {many} patients need a look. The last cycle ended {last}."),
        },
    }
}

fn cycle_under_way(sight: &Sight<'_>) -> Markup {
    let Some(since) = sight.state.under_way_since else {
        let next = sight.state.next_tick.map_or_else(|| "unknown".to_owned(), moment);
        return html! { p.soft { "No cycle is under way; the next is due at " (next) "." } };
    };
    let Progress { total, done, resources, .. } = sight.progress;
    html! {
        section {
            h2 { "Cycle under way" }
            progress max=((*total).max(1)) value=(done) { (done) " of " (total) }
            p { (done) " of " (total) " patients, " (resources) " resources, since " (moment(since)) " (" (span(sight.now, since)) ")" }
        }
    }
}

/// Held revocations have a section of their own.
fn problems(state: &State) -> Markup {
    let texts: Vec<&String> = state
        .problems
        .iter()
        .filter(|(problem, _)| **problem != Problem::Held)
        .map(|(_, text)| text)
        .collect();
    html! {
        @if !texts.is_empty() {
            section { h2 { "Needs a person" } ul { @for text in texts { li { (text) } } } }
        }
    }
}

fn patients(glance: &Glance) -> Markup {
    html! {
        section {
            h2 { "Patients" }
            dl.states {
                @for (state, name) in STATES {
                    @let count = glance.states.get(state).copied().unwrap_or_default();
                    @if count > 0 || state == "active" { div class=(state) { dt { (name) } dd { (count) } } }
                }
            }
        }
    }
}

fn held(glance: &Glance) -> Markup {
    let held: Vec<&str> =
        glance.worrying.iter().filter(|one| one.state == "held").map(|one| one.name.as_str()).collect();
    let count = glance.states.get("held").copied().unwrap_or_default();
    html! {
        @if count > 0 {
            section {
                h2 { "Held revocations" }
                p { "Consent was refused for too many patients at once to purge them unasked: " (held.join(", ")) @if held.len() as u64 != count { " and more, " (count) " in all" } }
                p { "If these are withdrawals: " code { "healthex-sync purge --held --yes" } }
                p { "If not, mend the API key's permissions, then: " code { "healthex-sync sync" } }
            }
        }
    }
}

/// Those that are held are listed above.
fn worrying(glance: &Glance, now: Timestamp) -> Markup {
    let behind: Vec<&Worrying> = glance.worrying.iter().filter(|one| one.state != "held").collect();
    html! {
        @if !behind.is_empty() {
            section {
                h2 { "Who is behind, and why" }
                table {
                    thead { tr { th { "patient" } th { "state" } th { "last success" } th { "why" } } }
                    tbody { @for patient in &behind { (worrying_row(patient, now)) } }
                }
                @if glance.worrying.len() as u64 != glance.worrying_total {
                    p.soft { "The first " (glance.worrying.len()) " of " (glance.worrying_total) ", held ones included; " code { "healthex-sync status" } " lists all." }
                }
            }
        }
    }
}

fn worrying_row(patient: &Worrying, now: Timestamp) -> Markup {
    let last =
        patient.last_success_at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", span(now, at)));
    let why = patient.last_error.as_deref().unwrap_or("not pulled for longer than alert.stale_after");
    html! {
        tr {
            td.name { (patient.name) }
            td { span class=(format!("tag {}", patient.state)) { (patient.state.replace('_', " ")) } }
            td data-is="last success" { (last) }
            td {
                (why)
                @if patient.failures > 0 { br; small {
                    (patient.failures) " in a row"
                    @if let Some(next) = patient.next_attempt_at { "; asked again at " (moment(next)) }
                } }
            }
        }
    }
}

fn cycles(sight: &Sight<'_>) -> Markup {
    let Some(last) = sight.state.cycles.back() else { return html! {} };
    html! {
        section {
            h2 { "Last cycles" }
            (chart::bars(&sight.state.cycles))
            (last_cycle(last))
        }
    }
}

fn last_cycle(last: &CycleMark) -> Markup {
    let CycleMark { patients, resources, .. } = last;
    html! {
        p.soft {
            "The last began at " (moment(last.started_at)) " and took " (format!("{:.1} s", last.took.as_secs_f64())) ": "
            (patients.ok) " ok, " (patients.failed) " failed, " (patients.skipped) " skipped; "
            (resources.inserted) " resources new, " (resources.updated) " changed, " (resources.deleted) " gone; " (last.requests) " requests."
        }
    }
}

fn warehouse(glance: &Glance, now: Timestamp) -> Markup {
    let bytes: u64 = glance.bytes.iter().map(|(_, bytes)| bytes).sum();
    html! {
        section {
            h2 { "Warehouse" }
            p {
                (size(bytes)) " on the disk"
                @if let Some(oldest) = glance.oldest_watermark { "; every active patient is complete up to " (span(now, oldest)) " ago" }
                "."
            }
            @if glance.quarantined > 0 { p { (glance.quarantined) " entries are in quarantine: see the table " code { "quarantine" } } }
            @if glance.unscrubbed > 0 {
                p {
                    (glance.unscrubbed) " purges still have bytes in the file"
                    @if let Some(since) = glance.oldest_unscrubbed { ", the oldest since " (moment(since)) }
                    "; " code { "healthex-sync status" } " says what they wait for."
                }
            }
        }
    }
}

pub(super) fn moment(at: Timestamp) -> String {
    stamp(at).replace('T', " ").replace('Z', " UTC")
}

fn span(now: Timestamp, at: Timestamp) -> String {
    hours((now - at).to_std().unwrap_or_default())
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{} kB", bytes / 1_000),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}
