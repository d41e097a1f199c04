//! What `status` and `check` tell of the service: whether `run` is alive, its last and its next cycle.

use serde::Serialize;

use crate::plan::verdict::{CycleVerdict, PatientCounts};
use crate::plan::{Timestamp, stamp};
use crate::service::counts;
use crate::settings::Settings;
use crate::time::TimeDelta;
use crate::warehouse::service::{CycleUnderWay, OpenProblem, PastCycle, RunReport, RunState, ServiceView};

/// What is told of the service, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct ServiceJson {
    /// `null` where it cannot be told.
    alive: Option<bool>,
    pid: Option<u32>,
    started_at: Option<String>,
    cycle: Option<CycleUnderWay>,
    last_cycle_at: Option<String>,
    last_cycle: Option<CycleJson>,
    last_ended_well: Option<String>,
    next_cycle_at: Option<String>,
    paused_until: Option<String>,
    waits_for: Option<String>,
    problems: Vec<OpenProblem>,
    reload_failed: Option<String>,
    needs_restart: Vec<String>,
}

#[derive(Debug, Serialize)]
struct CycleJson {
    started_at: String,
    verdict: &'static str,
    why: Option<String>,
    patients: PatientCounts,
    seconds: f64,
}

impl CycleJson {
    fn of(cycle: &PastCycle) -> Self {
        Self {
            started_at: stamp(cycle.started_at),
            verdict: cycle.verdict.as_str(),
            why: cycle.verdict.why().map(str::to_owned),
            patients: cycle.patients,
            seconds: cycle.took.as_secs_f64(),
        }
    }
}

/// The last report of a `run`, of one that is alive alone.
fn report(view: &ServiceView) -> Option<&RunReport> {
    match &view.run {
        RunState::Alive { report, .. } => report.as_ref(),
        RunState::NotRunning { .. } | RunState::Unknown(_) => None,
    }
}

/// Returns what needs a person: by the live report, or as it is remembered.
fn problems(view: &ServiceView) -> Vec<OpenProblem> {
    if let Some(report) = report(view) {
        return report.problems.clone();
    }
    let known = view.memory.problems.iter().map(|known| OpenProblem {
        kind: known.kind.clone(),
        since: stamp(known.since),
        title: crate::service::title(&known.kind).to_owned(),
    });
    known.collect()
}

pub(super) fn json(view: &ServiceView) -> ServiceJson {
    let report = report(view);
    let (alive, pid) = match &view.run {
        RunState::Alive { pid, .. } => (Some(true), pid.parse().ok()),
        RunState::NotRunning { .. } => (Some(false), None),
        RunState::Unknown(_) => (None, None),
    };
    let reload = report.and_then(|report| report.last_reload.clone()).unwrap_or_default();
    ServiceJson {
        alive,
        pid,
        started_at: report.and_then(|report| report.started_at.clone()),
        cycle: report.and_then(|report| report.cycle.clone()),
        last_cycle_at: view.last_cycle_at.map(stamp),
        last_cycle: view.memory.cycles.last().map(CycleJson::of),
        last_ended_well: view.last_well_end.map(stamp),
        next_cycle_at: report.and_then(|report| report.next_cycle_at.clone()),
        paused_until: report.and_then(|report| report.paused_until.clone()),
        waits_for: report.and_then(|report| report.waits_for.clone()),
        problems: problems(view),
        reload_failed: reload.failed,
        needs_restart: reload.needs_restart,
    }
}

/// One line of what is told.
pub(super) struct Line {
    pub(super) what: &'static str,
    pub(super) text: String,
    pub(super) is_bad: bool,
}

/// Returns what is told of the service, line by line.
pub(super) fn lines(view: &ServiceView, now: Timestamp) -> Vec<Line> {
    let mut lines = vec![liveness(view, now), last_cycle(view, now), next_cycle(view)];
    if let Some(report) = report(view) {
        if let Some(waits_for) = &report.waits_for {
            lines.push(bad("waits for", waits_for.clone()));
        }
        if let Some(until) = &report.paused_until {
            let text = format!("HealthEx does not answer, and is left alone until {until}");
            lines.push(bad("paused", text));
        }
        let reload = report.last_reload.clone().unwrap_or_default();
        if let Some(failed) = reload.failed {
            lines.push(bad("reload", format!("failed at {}: {failed}", reload.at)));
        }
        if !reload.needs_restart.is_empty() {
            let keys = reload.needs_restart.join(", ");
            lines
                .push(bad("restart", format!("{keys}: changed, and in force only after a restart of `run`")));
        }
    }
    let problem =
        |problem: OpenProblem| bad("problem", format!("{}, since {}", problem.title, problem.since));
    lines.extend(problems(view).into_iter().map(problem));
    lines
}

fn bad(what: &'static str, text: String) -> Line {
    Line { what, text, is_bad: true }
}

fn plain(what: &'static str, text: String) -> Line {
    Line { what, text, is_bad: false }
}

fn liveness(view: &ServiceView, now: Timestamp) -> Line {
    match &view.run {
        RunState::Alive { pid, report } => {
            let started = report.as_ref().and_then(|report| report.started_at.as_ref());
            let since = started.map_or_else(String::new, |since| format!(" since {since}"));
            let cycle = report.as_ref().and_then(|report| report.cycle.as_ref()).map(|cycle| {
                let CycleUnderWay { since, done, total, resources } = cycle;
                format!(
                    "; a cycle is under way since {since}: {done} of {total} patients, {resources} resources"
                )
            });
            plain("run", format!("alive{since} (pid {pid}){}", cycle.unwrap_or_default()))
        }
        RunState::NotRunning { last } => {
            let ended = last.as_ref().map(|last| {
                let was_due = last.next_cycle_at.as_deref().and_then(crate::plan::parse_stamp);
                match was_due.filter(|due| *due < now) {
                    Some(due) => format!("; its next cycle was due at {}", stamp(due)),
                    None => String::new(),
                }
            });
            plain("run", format!("not running{}", ended.unwrap_or_default()))
        }
        RunState::Unknown(why) => plain("run", format!("it cannot be told whether it is alive: {why}")),
    }
}

/// Returns whether this is the cycle that was noted as begun, which is a moment after the service began it. Both are
/// kept to the second.
fn began_within(began: Timestamp, cycle: &PastCycle) -> bool {
    let took = TimeDelta::from_std(cycle.took).unwrap_or_default() + TimeDelta::seconds(1);
    (TimeDelta::zero()..=took).contains(&(began - cycle.started_at))
}

fn last_cycle(view: &ServiceView, now: Timestamp) -> Line {
    let Some(began) = view.last_cycle_at else { return plain("last cycle", "none yet".to_owned()) };
    let ago = crate::service::elapsed(now, began);
    let text = format!("began at {} ({ago} ago)", stamp(began));
    // A `sync` leaves no verdict.
    match view.memory.cycles.last().filter(|cycle| began_within(began, cycle)) {
        None => plain("last cycle", text),
        Some(cycle) => {
            let how = cycle.verdict.why().unwrap_or(cycle.verdict.as_str());
            let text = format!("{text}: {how}; {}", counts(cycle.patients));
            Line { what: "last cycle", text, is_bad: matches!(cycle.verdict, CycleVerdict::Bad(_)) }
        }
    }
}

fn next_cycle(view: &ServiceView) -> Line {
    let text = match (&view.run, report(view).and_then(|report| report.next_cycle_at.as_ref())) {
        (RunState::NotRunning { .. }, _) => "none: `run` is not running".to_owned(),
        (_, Some(next)) => format!("due at {next}"),
        (_, None) => "not known".to_owned(),
    };
    plain("next cycle", text)
}

/// Says that nobody is in step, and since when.
pub(super) fn describe_stale(since: Timestamp, settings: &Settings, now: Timestamp) -> String {
    let (ago, limit) =
        (crate::service::elapsed(now, since), crate::service::span(settings.alert.stale_after));
    format!(
        "nobody was pulled for {ago}, longer than alert.stale_after ({limit}): the last success was at {}; start `run`, or see its log",
        stamp(since)
    )
}
