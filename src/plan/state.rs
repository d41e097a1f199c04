//! Where a patient stands, and the one function that moves it.

/// The `state` column of `checkpoint`, by the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatientState {
    New,
    Active,
    Failing,
    NotFound,
    Revoked,
    Held,
    Paused,
}

impl PatientState {
    pub const ALL: [Self; 7] =
        [Self::New, Self::Active, Self::Failing, Self::NotFound, Self::Revoked, Self::Held, Self::Paused];

    /// Returns the state's name in the `state` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Active => "active",
            Self::Failing => "failing",
            Self::NotFound => "not_found",
            Self::Revoked => "revoked",
            Self::Held => "held",
            Self::Paused => "paused",
        }
    }

    /// Reads a name that [`as_str`](Self::as_str) gave.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Why a patient's rows are removed; the `reason` column of `purge_log`, by the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeReason {
    ConsentRevoked,
    Operator,
    Roster,
}

impl PurgeReason {
    /// Returns the reason's name in the `reason` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsentRevoked => "consent_revoked",
            Self::Operator => "operator",
            Self::Roster => "roster",
        }
    }
}

/// What a cycle or an operator has brought about for one patient. There is no event for one
/// refusal: it has not been asked for a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    PullFinished,
    /// A consent check got a 200; nothing was pulled.
    StillPermitted,
    PullFailed,
    PersonUnknown,
    /// A withdrawn consent that is not acted on yet.
    WithdrawalHeld,
    /// The rows, if there were any, are gone.
    Purged(PurgeReason),
}

/// Returns the state that an event leads to. Nothing else changes a patient's state.
pub fn next_state(before: PatientState, event: Event) -> PatientState {
    use Event::*;
    use PatientState::*;
    match (before, event) {
        (_, PullFinished) => Active,
        (_, Purged(PurgeReason::ConsentRevoked)) => Revoked,
        // Not undone by the next cycle.
        (_, Purged(PurgeReason::Operator)) => Paused,
        // Listed again, it is pulled like anyone new.
        (_, Purged(PurgeReason::Roster)) => New,
        // Already purged: there is nothing left to hold back.
        (Revoked, WithdrawalHeld) => Revoked,
        (_, WithdrawalHeld) => Held,
        // A recheck that got no answer says nothing about consent: the verdict stands.
        (Revoked | Held, PersonUnknown | PullFailed) => before,
        (_, PersonUnknown) => NotFound,
        (New | Active | Failing | NotFound | Paused, PullFailed) => Failing,
        (Held, StillPermitted) => Active,
        (_, StillPermitted) => before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_leads_to_one_state() {
        use PatientState::*;
        let check =
            |before, event, after| assert_eq!(next_state(before, event), after, "{before:?} {event:?}");
        for before in PatientState::ALL {
            check(before, Event::PullFinished, Active);
            check(before, Event::Purged(PurgeReason::ConsentRevoked), Revoked);
            check(before, Event::Purged(PurgeReason::Operator), Paused);
            check(before, Event::Purged(PurgeReason::Roster), New);
        }
        for verdict in [Revoked, Held] {
            check(verdict, Event::PullFailed, verdict);
            check(verdict, Event::PersonUnknown, verdict);
        }
        for before in [New, Active, Failing, NotFound, Paused] {
            check(before, Event::PullFailed, Failing);
            check(before, Event::PersonUnknown, NotFound);
            check(before, Event::WithdrawalHeld, Held);
            check(before, Event::StillPermitted, before);
        }
        check(Held, Event::WithdrawalHeld, Held);
        check(Revoked, Event::WithdrawalHeld, Revoked);
        check(Held, Event::StillPermitted, Active);
        check(Revoked, Event::StillPermitted, Revoked);
    }

    #[test]
    fn a_state_is_read_by_the_name_it_is_written_by() {
        for state in PatientState::ALL {
            assert_eq!(PatientState::parse(state.as_str()), Some(state));
        }
        assert_eq!(PatientState::parse("asleep"), None);
    }
}
