//! `manifest.json`: what an export is, so that whoever receives it can check it and ask for the next one.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ExportFailed;
use super::output::{Content, FileName, HashedFile, WrittenFile};
use crate::plan::Timestamp;
use crate::time::TimeDelta;
use crate::warehouse::patient::CycleTimes;

pub(crate) const NAME: &str = "manifest.json";

/// What an export is.
#[derive(Debug, Serialize)]
pub(crate) struct Manifest {
    /// As of when the warehouse was read.
    pub(crate) time: String,
    /// Of the program.
    pub(crate) version: String,
    pub(crate) format: String,
    /// What it holds is what changed since then; without it, everything.
    pub(crate) since: Option<String>,
    /// What to give `--since` for an export that follows this one.
    pub(crate) next_since: String,
    /// The one person that it is of.
    pub(crate) person: Option<String>,
    pub(crate) pseudonymous: Option<PseudonymsTold>,
    /// Of each person, up to when its record was pulled; null where it was not yet.
    pub(crate) watermarks: BTreeMap<String, Option<String>>,
    /// Persons of whose record something is known to be missing.
    pub(crate) incomplete: Vec<String>,
    /// How many resources of each type cannot be told under a pseudonym.
    pub(crate) left_out: BTreeMap<String, u64>,
    pub(crate) files: Vec<WrittenFile>,
}

/// How persons were renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PseudonymsTold {
    /// The same in all exports that were made with one key; says nothing of the key.
    pub(crate) key: String,
    /// `as they are` or `shifted`.
    pub(crate) dates: String,
}

/// What an earlier manifest says to whoever follows it.
#[derive(Debug, Deserialize)]
pub(crate) struct Earlier {
    pub(crate) format: String,
    pub(crate) next_since: String,
    pub(crate) pseudonymous: Option<PseudonymsTold>,
}

impl Manifest {
    /// Writes it last, when all others are on the disk.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), ExportFailed> {
        let mut file = HashedFile::create(folder, NAME)?;
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::from)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.finish(FileName { file: NAME, of: None, content: Content::Whole }, 1)?;
        Ok(())
    }
}

/// A stamp is older than the commit that makes it visible by as long as that takes.
const COMMIT_MAX: TimeDelta = TimeDelta::minutes(10);

/// Returns since when a following export has to look, so that what was under way is not missed: what a cycle that
/// has not ended well is storing bears times from its beginning on.
pub(crate) fn next_since(now: Timestamp, cycles: CycleTimes) -> Timestamp {
    let under_way =
        cycles.last_started_at.filter(|started| cycles.last_good_end.is_none_or(|end| end < *started));
    under_way.unwrap_or(now).min(now) - COMMIT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{parse_stamp, stamp};

    #[test]
    fn what_a_cycle_is_storing_is_not_missed_by_the_next_export() {
        let at = |minute: u32| parse_stamp(&format!("2026-11-26T05:{minute:02}:00Z")).unwrap();
        let check = |started: Option<u32>, ended: Option<u32>, expected: &str| {
            let cycles = CycleTimes { last_started_at: started.map(at), last_good_end: ended.map(at) };
            assert_eq!(stamp(next_since(at(50), cycles)), expected, "{cycles:?}");
        };
        check(None, None, "2026-11-26T05:40:00Z");
        check(Some(20), Some(25), "2026-11-26T05:40:00Z");
        check(Some(20), Some(20), "2026-11-26T05:40:00Z");
        check(Some(20), Some(10), "2026-11-26T05:10:00Z");
        check(Some(20), None, "2026-11-26T05:10:00Z");
        // A clock that was set back.
        check(Some(55), None, "2026-11-26T05:40:00Z");
    }
}
