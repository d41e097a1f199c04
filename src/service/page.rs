//! The status page: one sentence that says whether all is well, and then why.
//!
//! Rendered here, readable without scripts, no asset from elsewhere. Labels rather than ids, neither
//! where names are hidden, and nothing clinical: all it shows is in [`PageModel`].

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::access::Names;
use super::format::{elapsed, moment, size};
use super::problems::{Problem, ShownProblem};
use super::state::ServiceState;
use super::told_cycle::counts;
use super::{chart, health};
use crate::cycle::progress::Progress;
use crate::plan::Timestamp;
use crate::time::TimeDelta;
use crate::warehouse::report::{ExpiringConsents, Overview, PatientBehind, RecentPurge, RecentPurges};
use crate::warehouse::service::PastCycle;

const STYLE: &str = include_str!("page.css");
const REFRESH_SECONDS: u32 = 15;
/// While a cycle runs.
const REFRESH_SECONDS_BUSY: u32 = 3;

/// In the order an operator reads them.
const STATES: [(&str, &str); 8] = [
    ("active", "active"),
    ("new", "new"),
    ("failing", "failing"),
    ("refused", "refused"),
    ("held", "held"),
    ("not_found", "not found"),
    ("revoked", "revoked"),
    ("paused", "paused"),
];

/// How long a purge stands on the page.
pub(super) const PURGES_SHOWN_FOR: TimeDelta = TimeDelta::days(30);
/// The rest of them are counted.
pub(super) const PURGES_SHOWN_MAX: usize = 20;
/// And of the consents that run out.
pub(super) const EXPIRING_SHOWN_MAX: usize = 20;

/// All that the page shows.
pub(super) struct PageModel<'s> {
    pub(super) state: &'s ServiceState,
    pub(super) progress: &'s Progress,
    /// The error says why the warehouse could not be read.
    pub(super) overview: Result<&'s Overview, &'s String>,
    pub(super) names: Names,
    pub(super) now: Timestamp,
}

/// The sentence, and its colour.
struct Headline {
    colour: &'static str,
    sentence: String,
}

pub(super) fn render(model: &PageModel<'_>) -> Markup {
    let headline = headline(model);
    let refresh = if model.state.running_since.is_some() { REFRESH_SECONDS_BUSY } else { REFRESH_SECONDS };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content=(refresh);
                title { (if headline.colour == "good" { "✓" } else { "!" }) " healthex-sync" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header { span { "healthex-sync " (env!("CARGO_PKG_VERSION")) } span { (moment(model.now)) ", renewed every " (refresh) " s" } }
                    h1 style=(format!("--headline: var(--{})", headline.colour)) { (headline.sentence) }
                    (cycle_under_way(model))
                    (problems(model))
                    @match model.overview {
                        Ok(overview) => {
                            (patients(overview))
                            (held(overview, model.names))
                            (cycles(model))
                            (patients_behind(overview, model))
                            (expiring(overview, model.names))
                            (purges(overview, model.names))
                            (warehouse(overview, model.now))
                            (workers(overview))
                            (failover(overview, model.now))
                            (where_names_are(model.names))
                        }
                        Err(why) => {
                            section { h2 { "Warehouse" } p { (why) } }
                            (cycles(model))
                        }
                    }
                }
            }
        }
    }
}

fn headline(model: &PageModel<'_>) -> Headline {
    let state = model.state;
    let ago = |at: Timestamp| format!("{} ago", elapsed(model.now, at));
    let last = state.last_well_end.map_or_else(|| "never".to_owned(), ago);
    if let Some(until) = state.paused_until {
        let sentence = format!(
            "HealthEx does not answer. It is asked again at {}; what is stored stays as it was.",
            moment(until)
        );
        return Headline { colour: "bad", sentence };
    }
    if !state.problems.is_empty() {
        let titles: Vec<&str> = state.problems.keys().map(|problem| problem.title()).collect();
        let sentence = format!(
            "This needs a person: {}. The last cycle that got through ended {last}.",
            titles.join("; ")
        );
        return Headline { colour: "bad", sentence };
    }
    if let Some(reason) =
        health::unhealthy_reason(&state.settings.sync.schedule, state.last_well_end, model.now)
    {
        if let Some(since) = state.running_since {
            let sentence = format!("A cycle is under way since {}; {reason}.", moment(since));
            return Headline { colour: "partly", sentence };
        }
        if state.cycles.is_empty() && state.last_well_end.is_none() {
            return Headline {
                colour: "partly",
                sentence: "Started; the first cycle is still to come.".to_owned(),
            };
        }
        return Headline { colour: "bad", sentence: format!("Not well: {reason}.") };
    }
    let Ok(overview) = model.overview else {
        return Headline { colour: "bad", sentence: "The warehouse cannot be looked at.".to_owned() };
    };
    match overview.behind_total.values().sum() {
        0 if state.needs_a_person() => Headline {
            colour: "partly",
            sentence: format!("Running; it needs a look: {}.", health::why_a_person(state)),
        },
        0 => Headline { colour: "good", sentence: format!("All is well: the last cycle ended well {last}.") },
        1 => Headline {
            colour: "partly",
            sentence: format!("Running; one patient needs a look. The last cycle ended {last}."),
        },
        many => Headline {
            colour: "partly",
            sentence: format!("Running; {many} patients need a look. The last cycle ended {last}."),
        },
    }
}

fn cycle_under_way(model: &PageModel<'_>) -> Markup {
    let Some(since) = model.state.running_since else {
        let next = model.state.next_tick.map_or_else(|| "unknown".to_owned(), moment);
        return html! { p.soft { "No cycle is under way; the next is due at " (next) "." } };
    };
    let Progress { total, done, resources, .. } = model.progress;
    html! {
        section {
            h2 { "Cycle under way" }
            progress max=((*total).max(1)) value=(done) { (done) " of " (total) }
            p { (done) " of " (total) " patients, " (resources) " resources, since " (moment(since)) " (" (elapsed(model.now, since)) ")" }
        }
    }
}

/// The held patients have a section of their own.
fn problems(model: &PageModel<'_>) -> Markup {
    let state = model.state;
    let text = |problem: &Problem, shown: &ShownProblem| match model.names {
        Names::Hidden if problem.names_patients() => problem.title().to_owned(),
        Names::Shown | Names::Hidden => shown.text.clone(),
    };
    let others = || state.problems.iter().filter(|(problem, _)| **problem != Problem::Held);
    let restart = state.last_reload.as_ref().map_or(&[][..], |reload| &reload.needs_restart);
    html! {
        @if others().next().is_some() {
            section {
                h2 { "Needs a person" }
                ul { @for (problem, shown) in others() { li { (text(problem, shown)) small { " since " (moment(shown.since)) } } } }
            }
        }
        @if !restart.is_empty() {
            section { h2 { "In force only after a restart" } p { (restart.join(", ")) } }
        }
    }
}

fn patients(overview: &Overview) -> Markup {
    html! {
        section {
            h2 { "Patients" }
            dl.states {
                @for (state, name) in STATES {
                    @let count = overview.states.get(state).copied().unwrap_or_default();
                    @if count > 0 || state == "active" { div class=(state) { dt { (name) } dd { (count) } } }
                }
            }
        }
    }
}

fn held(overview: &Overview, names: Names) -> Markup {
    let held: Vec<&str> =
        overview.behind.iter().filter(|one| one.state == "held").map(|one| one.name.as_str()).collect();
    let count = overview.states.get("held").copied().unwrap_or_default();
    html! {
        @if count > 0 {
            section {
                h2 { "Held, and not purged unasked" }
                @match names {
                    Names::Shown => { p {
                        @for name in &held { span.whole { (name) } " " }
                        @if held.len() as u64 != count { "and " (count - held.len() as u64) " more" }
                    } }
                    Names::Hidden => { p { (count) " patients" } }
                }
                ul { @for (kind, count) in &overview.held { li { (count) " " (kind.why.as_str()) ": " (with_code(kind.describe())) "." } } }
            }
        }
    }
}

/// Shows as code what is in backquotes.
fn with_code(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 0 { (part) } @else { code { (part) } }
        }
    }
}

fn expiring(overview: &Overview, names: Names) -> Markup {
    let ExpiringConsents { shown, total } = &overview.expiring;
    html! {
        @if *total > 0 {
            section {
                h2 { "Consents that run out" }
                p { (total) " patients, if they do not consent again" }
                table {
                    thead { tr { @if names == Names::Shown { th { "patient" } } th { "until" } } }
                    tbody {
                        @for consent in shown {
                            tr {
                                @if names == Names::Shown { td.name { (consent.name) } }
                                td data-is="until" { (consent.expires_at) }
                            }
                        }
                    }
                }
                @if shown.len() as u64 != *total {
                    p.soft { "The first " (shown.len()) " of " (total) "; " code { "healthex-sync roster" } " lists all." }
                }
            }
        }
    }
}

/// Without labels: those went with the rows.
fn purges(overview: &Overview, names: Names) -> Markup {
    let RecentPurges { shown, total } = &overview.purges;
    html! {
        @if *total > 0 {
            section {
                h2 { "Purged in the last 30 days" }
                table {
                    thead { tr { @if names == Names::Shown { th { "patient" } } th { "reason" } th { "when" } th { "rows" } } }
                    tbody { @for purge in shown { (purge_row(purge, names)) } }
                }
                @if shown.len() as u64 != *total {
                    p.soft { "The latest " (shown.len()) " of " (total) "; " code { "healthex-sync audit" } " lists all." }
                }
            }
        }
    }
}

fn purge_row(purge: &RecentPurge, names: Names) -> Markup {
    let when = purge.purged_at.map_or_else(|| "unknown".to_owned(), moment);
    html! {
        tr {
            @if names == Names::Shown { td.name { (purge.person_id) } }
            td { (purge.reason.replace('_', " ")) }
            td data-is="when" { (when) }
            td data-is="rows" { (purge.rows) }
        }
    }
}

/// A section for each state, so that many of one do not push out another. The held ones are above.
fn patients_behind(overview: &Overview, model: &PageModel<'_>) -> Markup {
    let sections = BEHIND.map(|(state, heading)| {
        let behind: Vec<&PatientBehind> = overview.behind.iter().filter(|one| one.state == state).collect();
        let total = overview.behind_total.get(state).copied().unwrap_or_default();
        (state, heading, behind, total)
    });
    html! {
        @if sections.iter().any(|(.., total)| *total > 0) {
            section {
                h2 { "Who is behind, and why" }
                @for (state, heading, behind, total) in sections.iter().filter(|(.., total)| *total > 0) {
                    h3 { (heading) " " span.count { (total) } }
                    @match model.names {
                        Names::Shown => (behind_by_name(behind, model.now)),
                        Names::Hidden => (behind_by_reason(behind)),
                    }
                    @if behind.len() as u64 != *total {
                        p.soft { "The first " (behind.len()) " of " (total) "; " code { "healthex-sync status --state " (state) } " lists all." }
                    }
                }
            }
        }
    }
}

/// Those that are alike stand together below what they have in common.
fn behind_by_name(behind: &[&PatientBehind], now: Timestamp) -> Markup {
    let mut groups: Vec<(&str, Vec<&PatientBehind>)> = Vec::new();
    for &patient in behind {
        let why = why_behind(patient);
        match groups.iter_mut().find(|(other, _)| *other == why) {
            Some((_, alike)) => alike.push(patient),
            None => groups.push((why, vec![patient])),
        }
    }
    html! {
        @for (why, alike) in &groups {
            p { (why) }
            table {
                thead { tr { th { "patient" } th { "last success" } th {} } }
                tbody { @for patient in alike { (behind_row(patient, now)) } }
            }
        }
    }
}

/// Counts those that are alike.
fn behind_by_reason(behind: &[&PatientBehind]) -> Markup {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for patient in behind {
        *counts.entry(why_behind(patient)).or_default() += 1;
    }
    html! {
        table {
            thead { tr { th { "patients" } th { "why" } } }
            tbody { @for (why, count) in counts {
                tr { td { (count) } td { (why) } }
            } }
        }
    }
}

fn why_behind(patient: &PatientBehind) -> &str {
    patient.last_error.as_deref().unwrap_or("not pulled for longer than alert.stale_after")
}

/// The states that have a list, those that need a person most first.
const BEHIND: [(&str, &str); 5] = [
    ("refused", "Refused, and not judged yet"),
    ("not_found", "Not found"),
    ("failing", "Failing"),
    ("active", "Behind"),
    ("new", "Never pulled"),
];

fn behind_row(patient: &PatientBehind, now: Timestamp) -> Markup {
    let last =
        patient.last_success_at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", elapsed(now, at)));
    html! {
        tr {
            td.name { (patient.name) }
            td data-is="last success" { (last) }
            td {
                @if patient.failures > 0 { small {
                    (patient.failures) " in a row"
                    @if let Some(next) = patient.next_attempt_at { "; asked again at " (moment(next)) }
                } }
            }
        }
    }
}

fn where_names_are(names: Names) -> Markup {
    html! {
        @if names == Names::Hidden {
            p.soft { "Everybody on this machine can see this page, so it names no patient. It does with " code { "http.token_file" } ", or on a Unix socket; " code { "healthex-sync status" } " does in any case." }
        }
    }
}

fn cycles(model: &PageModel<'_>) -> Markup {
    let Some(last) = model.state.cycles.back() else { return html! {} };
    html! {
        section {
            h2 { "Last cycles" }
            (chart::bars(&model.state.cycles))
            (last_cycle(last))
        }
    }
}

fn last_cycle(last: &PastCycle) -> Markup {
    let PastCycle { patients, resources, .. } = last;
    html! {
        p.soft {
            "The last began at " (moment(last.started_at)) " and took " (format!("{:.1} s", last.took.as_secs_f64())) ": "
            (counts(*patients)) "; "
            (resources.inserted) " resources new, " (resources.updated) " changed, " (resources.deleted) " gone; " (last.requests) " requests."
        }
    }
}

fn workers(overview: &Overview) -> Markup {
    let told = overview.workers.iter().find(|told| !told.workers.is_empty());
    html! {
        @if let Some(told) = told {
            section {
                h2 { "Workers" }
                @if let Some(cycle) = told.describe_cycle() { p { (cycle) "." } }
                table {
                    thead { tr { th { "machine" } th { "pid" } th { "version" } th { "is" } th { "patients" } th { "seen" } } }
                    tbody {
                        @for worker in &told.workers {
                            tr {
                                td { (worker.host) @if let Some(problem) = &worker.problem { br; small { (problem) } } }
                                td { (worker.pid) } td { (worker.version) } td { (worker.is.as_str()) }
                                td { (worker.patients) } td { (moment(worker.seen_at)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn failover(overview: &Overview, now: Timestamp) -> Markup {
    let told = overview.failover.iter().find(|failover| failover.is_told(now));
    html! {
        @if let Some(failover) = told {
            section { h2 { "Another server" } p { (failover) "." small { " Noticed at " (moment(failover.noticed_at)) } } }
        }
    }
}

fn warehouse(overview: &Overview, now: Timestamp) -> Markup {
    let bytes: u64 = overview.bytes.iter().map(|size| size.bytes).sum();
    html! {
        section {
            h2 { "Warehouse" }
            p {
                (size(bytes)) " on the disk"
                @if let Some(oldest) = overview.complete_up_to { "; every active patient is complete up to " (elapsed(now, oldest)) " ago" }
                "."
            }
            @if overview.quarantined > 0 { p { (overview.quarantined) " entries are in quarantine: see the table " code { "quarantine" } } }
            @if overview.unscrubbed > 0 {
                p {
                    "Purges whose last bytes are not gone yet: " (overview.unscrubbed)
                    @if let Some(since) = overview.oldest_unscrubbed { ", the oldest since " (moment(since)) }
                    "; " code { "healthex-sync status" } " says what they wait for."
                }
            }
        }
    }
}
