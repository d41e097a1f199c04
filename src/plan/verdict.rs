//! How a cycle ended, in one word: what the heartbeat, the page, the metrics and `/healthz` all go by.

/// How a cycle ended. The `verdict` column of `cycle`, by the names of [`as_str`](Self::as_str).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CycleVerdict {
    /// Everybody who is pulled is in step, and nothing needs a person.
    Good,
    /// It got through, and some patients or the service itself need a look.
    Partly,
    /// Nobody was due.
    Idle,
    Interrupted,
    Bad(String),
}

impl CycleVerdict {
    /// The names of all verdicts.
    pub const NAMES: [&str; 5] = ["good", "partly", "idle", "interrupted", "bad"];

    /// Returns the verdict's name, which is also the metric's label and the word on the page.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Partly => "partly",
            Self::Idle => "idle",
            Self::Interrupted => "interrupted",
            Self::Bad(_) => "bad",
        }
    }

    /// Reads a name that [`as_str`](Self::as_str) gave, with what was said of a bad cycle.
    pub fn parse(name: &str, why: Option<String>) -> Option<Self> {
        Some(match name {
            "good" => Self::Good,
            "partly" => Self::Partly,
            "idle" => Self::Idle,
            "interrupted" => Self::Interrupted,
            "bad" => Self::Bad(why.unwrap_or_default()),
            _ => return None,
        })
    }

    /// Returns what was said of a bad cycle.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Bad(why) => Some(why),
            Self::Good | Self::Partly | Self::Idle | Self::Interrupted => None,
        }
    }
}

/// How many patients came to which end in one cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PatientCounts {
    pub total: u64,
    pub ok: u64,
    pub revoked: u64,
    pub held: u64,
    pub not_found: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl PatientCounts {
    /// Returns how many came to some end.
    pub(crate) fn counted(self) -> u64 {
        self.ok + self.revoked + self.held + self.not_found + self.failed + self.skipped
    }
}

/// The patients that somebody may want to look at, whether or not a cycle has asked for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct NeedsLook {
    /// Waiting to be asked again included.
    pub failing: u64,
    pub not_found: u64,
    pub refused: u64,
    pub held: u64,
}

impl NeedsLook {
    pub fn total(self) -> u64 {
        self.failing + self.not_found + self.refused + self.held
    }
}

/// What a cycle's verdict is made of.
#[derive(Clone, Copy, Debug)]
pub struct CycleFacts<'f> {
    pub patients: PatientCounts,
    /// Of those that were due, how many were not reached.
    pub not_reached: u64,
    pub end: CycleEnding<'f>,
    pub needs_look: NeedsLook,
    /// Why the consent records could not be read, if so.
    pub no_records: Option<&'f str>,
    /// Something of the whole service needs a person, such as bytes of purged patients that wait.
    pub has_problem: bool,
}

/// Whether a cycle got through its patients.
#[derive(Clone, Copy, Debug)]
pub enum CycleEnding<'f> {
    GotThrough,
    Stopped,
    /// It ended before that, and why.
    Early(&'f str),
}

impl CycleFacts<'_> {
    /// Returns whether nobody and nothing needs a person: the heartbeat is sent then and only then.
    pub fn is_wholly_good(&self) -> bool {
        let PatientCounts { held, not_found, failed, .. } = self.patients;
        matches!(self.end, CycleEnding::GotThrough)
            && held + not_found + failed + self.not_reached + self.needs_look.total() == 0
            && self.no_records.is_none()
            && !self.has_problem
    }
}

/// Judges a cycle.
pub fn judge_cycle(facts: &CycleFacts<'_>) -> CycleVerdict {
    match facts.end {
        CycleEnding::Stopped => return CycleVerdict::Interrupted,
        CycleEnding::Early(why) => return CycleVerdict::Bad(why.to_owned()),
        CycleEnding::GotThrough => {}
    }
    let PatientCounts { ok, revoked, held, not_found, failed, .. } = facts.patients;
    match (ok + revoked + held + not_found, failed) {
        (0, 0) => facts.no_records.map_or(CycleVerdict::Idle, |why| CycleVerdict::Bad(why.to_owned())),
        (0, failed) => CycleVerdict::Bad(format!("all {failed} patients that were due failed")),
        _ if facts.is_wholly_good() => CycleVerdict::Good,
        _ => CycleVerdict::Partly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: PatientCounts =
        PatientCounts { total: 0, ok: 0, revoked: 0, held: 0, not_found: 0, failed: 0, skipped: 0 };
    const NOBODY: NeedsLook = NeedsLook { failing: 0, not_found: 0, refused: 0, held: 0 };

    fn facts(patients: PatientCounts) -> CycleFacts<'static> {
        let (end, needs_look) = (CycleEnding::GotThrough, NOBODY);
        CycleFacts { patients, not_reached: 0, end, needs_look, no_records: None, has_problem: false }
    }

    #[test]
    fn a_cycle_is_good_only_if_nobody_needs_a_look() {
        let check = |facts: CycleFacts<'_>, verdict: &str, wholly_good: bool| {
            assert_eq!(judge_cycle(&facts).as_str(), verdict, "{facts:?}");
            assert_eq!(facts.is_wholly_good(), wholly_good, "{facts:?}");
        };
        let through = facts(PatientCounts { ok: 2, revoked: 1, ..NONE });
        check(through, "good", true);
        check(facts(PatientCounts { skipped: 2, ..NONE }), "idle", true);
        check(facts(PatientCounts { ok: 2, failed: 1, ..NONE }), "partly", false);
        check(facts(PatientCounts { held: 2, ..NONE }), "partly", false);
        check(facts(PatientCounts { not_found: 1, ..NONE }), "partly", false);
        check(facts(PatientCounts { held: 1, not_found: 1, ..NONE }), "partly", false);
        check(facts(PatientCounts { ok: 1, revoked: 1, ..NONE }), "good", true);
        check(facts(PatientCounts { failed: 2, ..NONE }), "bad", false);
        check(CycleFacts { end: CycleEnding::Early("down"), ..through }, "bad", false);
        check(CycleFacts { end: CycleEnding::Stopped, ..through }, "interrupted", false);
        // Those that this cycle has not asked count as well.
        for needs_look in [
            NeedsLook { failing: 1, ..NOBODY },
            NeedsLook { not_found: 1, ..NOBODY },
            NeedsLook { refused: 1, ..NOBODY },
            NeedsLook { held: 1, ..NOBODY },
        ] {
            check(CycleFacts { needs_look, ..through }, "partly", false);
            let idle = facts(PatientCounts { skipped: 1, ..NONE });
            check(CycleFacts { needs_look, ..idle }, "idle", false);
        }
        check(CycleFacts { has_problem: true, ..through }, "partly", false);
        check(CycleFacts { not_reached: 1, ..through }, "partly", false);
        let no_records = Some("the study cannot be read");
        check(CycleFacts { no_records, ..through }, "partly", false);
        check(CycleFacts { no_records, ..facts(PatientCounts { skipped: 1, ..NONE }) }, "bad", false);
    }

    #[test]
    fn a_verdict_is_read_by_its_name() {
        for name in CycleVerdict::NAMES {
            assert_eq!(CycleVerdict::parse(name, None).unwrap().as_str(), name);
        }
        assert_eq!(CycleVerdict::parse("bad", Some("down".to_owned())).unwrap().why(), Some("down"));
        assert_eq!(CycleVerdict::parse("well", None), None);
    }
}
