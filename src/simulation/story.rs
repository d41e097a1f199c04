//! A failing script, made small by itself and told in ten lines.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::run::{Failed, run};
use super::script::{Event, Script};
use super::wording::moment;
use crate::clock::Instant;
use crate::wording::counted;

/// In minutes.
const DAY: u32 = 24 * 60;

/// Events that a story tells; more are counted.
const EVENTS_TOLD: usize = 6;

/// Makes a failing script smaller for so long, as long as the same stays untrue.
pub(super) fn shrink(script: Script, failed: Failed, patience: Duration, roots: &Path) -> (Script, Failed) {
    let ends = Instant::now() + patience;
    let mut small = Small { script, failed, roots, ends };
    small.end_at_the_failure();
    while small.without_days() | small.without_patients() | small.without_events() {}
    (small.script, small.failed)
}

struct Small<'r> {
    script: Script,
    failed: Failed,
    roots: &'r Path,
    ends: Instant,
}

impl Small<'_> {
    /// Takes a smaller script if it fails in the same way.
    fn takes(&mut self, script: Script) -> bool {
        if self.ends <= Instant::now() {
            return false;
        }
        let same =
            run(&script, self.roots).failed.filter(|failed| failed.untrue.truth == self.failed.untrue.truth);
        let Some(failed) = same else { return false };
        (self.script, self.failed) = (script, failed);
        true
    }

    fn end_at_the_failure(&mut self) {
        let mut script = self.script.clone();
        script.events.retain(|event| event.minute <= self.failed.minute);
        script.days = script.days.min(self.failed.minute / DAY + 1);
        self.takes(script);
    }

    /// Takes whole days out, with what happens on them; what comes after them comes sooner.
    fn without_days(&mut self) -> bool {
        let mut is_smaller = false;
        let mut size = self.script.days / 2;
        while size > 0 {
            let mut from = 0;
            while from + size < self.script.days {
                let (begins, ends) = (from * DAY, (from + size) * DAY);
                let mut script = self.script.clone();
                script.days -= size;
                script.events.retain(|event| !(begins..ends).contains(&event.minute));
                for event in script.events.iter_mut().filter(|event| event.minute >= ends) {
                    event.minute -= ends - begins;
                }
                if self.takes(script) { is_smaller = true } else { from += size }
            }
            size /= 2;
        }
        is_smaller
    }

    fn without_patients(&mut self) -> bool {
        let mut is_smaller = false;
        loop {
            let patients = self.script.patients;
            let fewer = [patients / 2, patients.saturating_sub(1)];
            let took = fewer.into_iter().filter(|fewer| *fewer > 0 && *fewer < patients).any(|fewer| {
                let mut script = self.script.clone();
                script.patients = fewer;
                script.events.retain(|event| event.what.patient().is_none_or(|patient| patient < fewer));
                self.takes(script)
            });
            if !took {
                return is_smaller;
            }
            is_smaller = true;
        }
    }

    /// Leaves out as many events at once as can be left out.
    fn without_events(&mut self) -> bool {
        let mut is_smaller = false;
        let mut size = self.script.events.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < self.script.events.len() {
                let mut script = self.script.clone();
                let to = (from + size).min(script.events.len());
                script.events.drain(from..to);
                if self.takes(script) { is_smaller = true } else { from = to }
            }
            size /= 2;
        }
        is_smaller
    }
}

/// Tells a failing script in ten lines.
pub(super) fn tell(script: &Script, failed: &Failed) -> String {
    let mut story = String::new();
    let Script { seed, patients, every, page_size, consents_every, events, .. } = script;
    let _ = writeln!(story, "untrue: {}", failed.untrue.truth);
    let _ = writeln!(
        story,
        "seed {seed}: {patients} patients, a cycle every {every} min, pages of {page_size} (0: one answer){}",
        consents_every.map(|every| format!(", consent records every {every} min")).unwrap_or_default()
    );
    let happened: Vec<&Event> = events.iter().filter(|event| event.minute <= failed.minute).collect();
    let (before, told) = happened.split_at(happened.len().saturating_sub(EVENTS_TOLD));
    if !before.is_empty() {
        let _ = writeln!(story, "{} before", counted(before.len(), "event", "events"));
    }
    for event in told {
        let _ = writeln!(story, "{event}");
    }
    let _ = writeln!(story, "{}: {}", moment(failed.minute), failed.untrue.shows);
    story
}
