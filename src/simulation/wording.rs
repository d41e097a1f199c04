//! What happens in a script, in words.

use std::fmt;

use super::script::{DAY, Event, HOUR, What, Written, person};
use crate::time::TimeDelta;

/// `day 3 04:15`
pub(super) fn moment(minute: u32) -> String {
    format!("day {} {:02}:{:02}", minute / DAY, minute % DAY / HOUR, minute % HOUR)
}

/// `26 h 15 min`
pub(super) fn lasting(span: TimeDelta) -> String {
    let minutes = span.num_minutes();
    format!("{} h {} min", minutes / 60, minutes % 60)
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", moment(self.minute), self.what)
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsPermitted => write!(f, "says what HealthEx does"),
            Self::Withdrawn => write!(f, "says withdrawn"),
            Self::Consented => write!(f, "says consented"),
            Self::Nothing => write!(f, "is gone"),
            Self::EndsIn { minutes } => write!(f, "runs out in {minutes} min"),
            Self::Renewed => write!(f, "is new and lasts a year"),
            Self::OtherScopes => write!(f, "lets something else through"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(patient) = self.patient() {
            write!(f, "{} ", person(patient))?;
        }
        match self {
            Self::Add { late: 0, .. } => write!(f, "gets a new entry"),
            Self::Add { late, .. } => write!(f, "gets an entry that was made {late} min ago"),
            Self::Correct { which, .. } => write!(f, "has entry {which} corrected"),
            Self::Remove { which, .. } => write!(f, "loses entry {which}"),
            Self::Empty { keeps, .. } => write!(f, "loses all entries but {keeps}"),
            Self::Recreate { .. } => write!(f, "has all entries under new names"),
            Self::Withdraw { .. } => write!(f, "withdraws consent"),
            Self::Consent { .. } => write!(f, "consents again"),
            Self::Record { written, .. } => write!(f, "has a consent record that {written}"),
            Self::Unlist { .. } => write!(f, "is taken off the roster"),
            Self::List { .. } => write!(f, "is on the roster again"),
            Self::Disable { .. } => write!(f, "is disabled in the roster"),
            Self::Enable { .. } => write!(f, "is enabled in the roster"),
            Self::Types { types: [], .. } => write!(f, "is on the roster for every type"),
            Self::Types { types, .. } => write!(f, "is on the roster for {} only", types.join(", ")),
            Self::Purge { in_cycle: None, .. } => write!(f, "is purged by an operator"),
            Self::Purge { in_cycle: Some(after), .. } => {
                write!(f, "is purged by an operator {after} ms into the next cycle")
            }
            Self::Resume { .. } => write!(f, "is asked for by an operator"),
            Self::PurgeHeld => write!(f, "an operator purges all who are held"),
            Self::HalfARoster { minutes, is_cut: true } => {
                write!(f, "the roster is half written for {minutes} min")
            }
            Self::HalfARoster { minutes, .. } => {
                write!(f, "the roster lacks its second half for {minutes} min")
            }
            Self::Reload { page_size } => {
                write!(f, "the configuration is read again, with pages of {page_size}")
            }
            Self::Weather { minutes, sky } => write!(f, "{sky} for {minutes} min"),
            Self::TokensEnd => write!(f, "all tokens end"),
            Self::OurClock { seconds } => write!(f, "our clock steps by {seconds} s"),
            Self::ServersClock { seconds } => write!(f, "the server's clock is off by {seconds} s"),
            Self::Crash { at } => write!(f, "the process dies at await or commit {at}"),
            Self::CrashAtARefusal { at } => {
                write!(f, "the process dies at await or commit {at} after the next refusal")
            }
            Self::CrashAtAPurge { at } => {
                write!(f, "the process dies at await or commit {at}, counted from the next purge")
            }
            Self::Backup => write!(f, "a backup is made"),
            Self::Restore => write!(f, "the last backup is restored"),
            Self::DiskFull { minutes } => write!(f, "the disk is full for {minutes} min"),
            Self::Reader { minutes } => write!(f, "somebody reads the warehouse for {minutes} min"),
        }
    }
}
