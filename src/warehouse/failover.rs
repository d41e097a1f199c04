//! The words for a server that has another history than it had: what was committed last may be lost.

use std::fmt;

use crate::plan::{Timestamp, parse_stamp, stamp};
use crate::time::TimeDelta;

/// Which history of changes a server writes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerHistory {
    /// What all copies of one server have in common.
    pub(super) system: String,
    /// Begun by each standby that is made the primary, and by each restore.
    pub(super) timeline: String,
}

impl fmt::Display for ServerHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.system, self.timeline)
    }
}

impl ServerHistory {
    /// Reads what `Display` writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (system, timeline) = text.split_once('/')?;
        Some(Self { system: system.to_owned(), timeline: timeline.to_owned() })
    }
}

/// A change of the history that a warehouse is on, as it is noted in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    pub noticed_at: Timestamp,
    pub(super) from: ServerHistory,
    pub(super) to: ServerHistory,
    /// Whether a cycle has asked everyone since.
    pub everyone_asked: bool,
}

/// How long it is told.
const TOLD_FOR: TimeDelta = TimeDelta::days(30);

impl Failover {
    /// Returns what is noted of it.
    pub(super) fn note(&self) -> String {
        format!("{} {} {}", stamp(self.noticed_at), self.from, self.to)
    }

    /// Reads what [`note`](Self::note) gave.
    pub(super) fn of_note(note: &str, everyone_asked: bool) -> Option<Self> {
        let mut words = note.split(' ');
        let noticed_at = parse_stamp(words.next()?)?;
        let (from, to) = (ServerHistory::parse(words.next()?)?, ServerHistory::parse(words.next()?)?);
        Some(Self { noticed_at, from, to, everyone_asked })
    }

    /// Returns whether onlookers are told of it still.
    pub fn is_told(&self, now: Timestamp) -> bool {
        !self.everyone_asked || now - self.noticed_at < TOLD_FOR
    }
}

impl fmt::Display for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, .. } = self;
        if from.system == to.system {
            // As the server's own log counts them, and not in the digits of a file's name.
            let number = |history: &ServerHistory| u32::from_str_radix(&history.timeline, 16).unwrap_or(0);
            write!(
                f,
                "the database has failed over to a standby, or was restored to an earlier moment (timeline {} after {})",
                number(to),
                number(from)
            )?;
        } else {
            f.write_str("the database is on another server than before, by a move, an upgrade or a dump")?;
        }
        f.write_str(
            ": what was committed last before that may be lost, and purges with it. Each machine repeats the purges of its own ledger, and ",
        )?;
        f.write_str(if self.everyone_asked {
            "everyone has been asked for consent since"
        } else {
            "the next cycle asks everyone for consent"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failover_is_read_as_it_was_noted_and_told_as_what_it_was() {
        let history = |text: &str| ServerHistory::parse(text).unwrap();
        let check = |to: &str, asked: bool, told: [&str; 2]| {
            let noticed_at = Timestamp::from_timestamp(1_800_000_000, 0).unwrap();
            let failover = Failover {
                noticed_at,
                from: history("7712774067877892076/00000009"),
                to: history(to),
                everyone_asked: asked,
            };
            assert_eq!(Failover::of_note(&failover.note(), asked).as_ref(), Some(&failover));
            let text = failover.to_string();
            assert!(told.iter().all(|told| text.contains(told)), "{text}");
            let later = noticed_at + TimeDelta::days(31);
            assert_eq!((failover.is_told(noticed_at), failover.is_told(later)), (true, !asked));
        };
        let same = "7712774067877892076/0000000A";
        check(same, false, ["(timeline 10 after 9)", "the next cycle asks everyone"]);
        check(same, true, ["failed over", "everyone has been asked"]);
        check("1/00000001", false, ["on another server", "may be lost"]);
        assert_eq!(Failover::of_note("2027-01-15T08:00:00Z 1/1", false), None);
    }
}
