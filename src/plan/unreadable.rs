//! Is an entry that is no JSON the fault of the way, or of the server?
//!
//! It breaks its page, which is asked for again. What is no JSON in any attempt will be none in
//! the next: it is quarantined, and the rest of the page is worth having.

use std::collections::HashSet;

use super::row::KeyHash;

/// The unreadable entries of the attempts at one page.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    /// `None` before the first attempt that came to the end of the page.
    in_every_attempt: Option<HashSet<KeyHash>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnreadableVerdict {
    AskAgain,
    /// Keep the page, and these entries apart.
    Quarantine,
    /// Each attempt breaks elsewhere: the page is as broken as if it had ended early.
    Broken,
}

impl Unreadable {
    /// Judges an attempt that came to the end of the page, by the identities of what it could not read.
    pub(crate) fn judge(&mut self, attempt: &HashSet<KeyHash>, has_more_attempts: bool) -> UnreadableVerdict {
        match &mut self.in_every_attempt {
            None => self.in_every_attempt = Some(attempt.clone()),
            Some(every) => every.retain(|entry| attempt.contains(entry)),
        }
        let every = self.in_every_attempt.as_ref();
        let is_the_servers = every.is_some_and(|every| attempt.iter().all(|entry| every.contains(entry)));
        match (attempt.is_empty(), has_more_attempts) {
            (true, _) => UnreadableVerdict::Quarantine,
            (false, true) => UnreadableVerdict::AskAgain,
            (false, false) if is_the_servers => UnreadableVerdict::Quarantine,
            (false, false) => UnreadableVerdict::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::UnreadableVerdict::*;
    use super::*;

    fn check(attempts: &[&[KeyHash]], verdict: UnreadableVerdict) {
        let mut unreadable = Unreadable::default();
        for (at, attempt) in (1..).zip(attempts) {
            let attempt: HashSet<KeyHash> = attempt.iter().copied().collect();
            let is_last = at == attempts.len();
            let expected = if is_last { verdict } else { AskAgain };
            assert_eq!(unreadable.judge(&attempt, !is_last), expected, "{attempts:?}, {at}");
        }
    }

    #[test]
    fn what_no_attempt_could_read_is_quarantined_and_nothing_else_is() {
        check(&[&[7], &[7], &[7]], Quarantine);
        check(&[&[7, 8], &[8, 7]], Quarantine);
        // One of them was the fault of the way.
        check(&[&[7, 8], &[7], &[7]], Quarantine);
        check(&[&[7], &[]], Quarantine);
        check(&[&[7]], Quarantine);
        check(&[&[7], &[7, 8]], Broken);
        check(&[&[7], &[8], &[7]], Broken);
        check(&[&[7], &[8]], Broken);
    }
}
