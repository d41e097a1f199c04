//! Has a patient left the roster for good, or has somebody lost a part of the roster?
//!
//! A file that is being written, or a glob that has lost one, lacks patients for a while. So nobody
//! is purged on one reading, nor before readings have lacked it for `roster.removed_after`.

use std::time::Duration;

use super::Timestamp;
use crate::time::TimeDelta;

/// So many readings of the roster, and all in between, must have lacked a patient.
pub(crate) const READINGS_MIN: u32 = 2;

/// A purge that an operator has ordered is remembered until so many readings, and all in between, have
/// lacked its patient for so long: whoever is listed after that is new, and pulled.
pub(crate) const REMEMBERED_FOR: TimeDelta = TimeDelta::hours(24);

/// Who lists a patient; the `listed_by` column of `checkpoint`, by the same names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListedBy {
    /// The roster's files.
    #[default]
    File,
    /// A study whose records know the patient.
    Study,
    Both,
}

impl ListedBy {
    /// Returns the name in the `listed_by` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Study => "study",
            Self::Both => "both",
        }
    }
}

/// Readings of the roster, without one that lists the patient in between, that have lacked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// When the first of them was.
    pub since: Timestamp,
    /// Counted up to [`READINGS_MIN`].
    pub readings: u32,
}

/// Returns what is remembered of a patient after one more reading of the roster.
pub(crate) fn after_reading(before: Option<Missing>, is_listed: bool, now: Timestamp) -> Option<Missing> {
    if is_listed {
        return None;
    }
    let Missing { since, readings } = before.unwrap_or(Missing { since: now, readings: 0 });
    // A time that lies ahead was noted by a wrong clock.
    Some(Missing { since: since.min(now), readings: (readings + 1).min(READINGS_MIN) })
}

/// Whether a patient that is missing is to be purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaverVerdict {
    /// Not before this time, and not before another reading has lacked it.
    Waits {
        until: Timestamp,
    },
    Purge,
}

/// Judges a patient that is missing from the roster since then, and has rows.
pub(crate) fn judge_leaver(missing: Missing, removed_after: Duration, now: Timestamp) -> LeaverVerdict {
    let wait = TimeDelta::from_std(removed_after).unwrap_or(TimeDelta::MAX);
    let until = missing.since.checked_add_signed(wait).unwrap_or(Timestamp::MAX_UTC);
    if READINGS_MIN <= missing.readings && until <= now {
        LeaverVerdict::Purge
    } else {
        LeaverVerdict::Waits { until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn missing(since: i64, readings: u32) -> Missing {
        Missing { since: at(since), readings }
    }

    #[test]
    fn a_reading_that_lists_the_patient_ends_the_row() {
        let check = |before, is_listed, after| {
            assert_eq!(after_reading(before, is_listed, at(0)), after, "{before:?} {is_listed}");
        };
        check(None, true, None);
        check(Some(missing(-HOUR, 2)), true, None);
        check(None, false, Some(missing(0, 1)));
        check(Some(missing(-HOUR, 1)), false, Some(missing(-HOUR, 2)));
        check(Some(missing(-HOUR, 2)), false, Some(missing(-HOUR, 2)));
        // Noted by a clock that was ahead.
        check(Some(missing(HOUR, 1)), false, Some(missing(0, 2)));
    }

    #[test]
    fn two_readings_at_least_must_have_lacked_it_for_so_long() {
        let waits = |seconds| LeaverVerdict::Waits { until: at(seconds) };
        let check = |missing, hours, verdict| {
            let removed_after = Duration::from_hours(hours);
            assert_eq!(judge_leaver(missing, removed_after, at(0)), verdict, "{missing:?} {hours}");
        };
        check(missing(0, 1), 24, waits(24 * HOUR));
        check(missing(0, 2), 24, waits(24 * HOUR));
        check(missing(-24 * HOUR + 1, 2), 24, waits(1));
        check(missing(-24 * HOUR, 2), 24, LeaverVerdict::Purge);
        // A daemon that was off for a week has read it once.
        check(missing(-168 * HOUR, 1), 24, waits(-144 * HOUR));
        check(missing(0, 1), 0, waits(0));
        check(missing(0, 2), 0, LeaverVerdict::Purge);
        let never = judge_leaver(missing(0, 2), Duration::MAX, at(0));
        assert_eq!(never, LeaverVerdict::Waits { until: Timestamp::MAX_UTC });
    }

    #[test]
    fn who_lists_a_patient_has_the_name_that_the_column_has() {
        let names = [ListedBy::File, ListedBy::Study, ListedBy::Both].map(ListedBy::as_str);
        assert_eq!(names, ["file", "study", "both"]);
    }
}
