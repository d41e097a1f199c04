//! Where a patient stands, and the one function that moves it.

/// The `state` column of `checkpoint`, by the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatientState {
    New,
    Active,
    /// Refused, and not asked again yet.
    Refused,
    Failing,
    NotFound,
    Revoked,
    Held,
    Paused,
}

impl PatientState {
    pub const ALL: [Self; 8] = [
        Self::New,
        Self::Active,
        Self::Refused,
        Self::Failing,
        Self::NotFound,
        Self::Revoked,
        Self::Held,
        Self::Paused,
    ];

    /// Returns the state's name in the `state` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Active => "active",
            Self::Refused => "refused",
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

/// Why a refused patient is not purged; the `held_why` column of `checkpoint`, by the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldWhy {
    /// Nobody else was permitted, so that it may be our access that is broken.
    Alone,
    /// Too many withdrawals at once to be believed.
    Many,
    /// HealthEx's consent record says the opposite of what was answered about the patient.
    Contradicted,
    /// There is no other token to ask again with.
    Token,
}

impl HeldWhy {
    pub const ALL: [Self; 4] = [Self::Alone, Self::Many, Self::Contradicted, Self::Token];

    /// Returns the reason's name in the `held_why` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Many => "many",
            Self::Contradicted => "contradicted",
            Self::Token => "token",
        }
    }

    /// Reads a name that [`as_str`](Self::as_str) gave.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.as_str() == text)
    }
}

/// Why a patient's rows are removed; the `reason` column of `purge_log`, by the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PurgeReason {
    ConsentRevoked,
    Operator,
    Roster,
}

impl PurgeReason {
    pub const ALL: [Self; 3] = [Self::ConsentRevoked, Self::Operator, Self::Roster];

    /// Returns the reason's name in the `reason` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsentRevoked => "consent_revoked",
            Self::Operator => "operator",
            Self::Roster => "roster",
        }
    }

    /// Reads a name that [`as_str`](Self::as_str) gave.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// What a cycle or an operator has brought about for one patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    PullFinished,
    /// A consent check got a Bundle; nothing was pulled.
    StillPermitted,
    PullFailed,
    /// A consent check of one that is not pulled got no answer to go by.
    CheckFailed,
    PersonUnknown,
    /// A 403 that can be HealthEx's own. It is believed only after it was asked for again.
    Refused,
    /// Refused again, and not acted on.
    Held(HeldWhy),
    /// The rows, if there were any, are gone.
    Purged(PurgeReason),
}

/// Returns the state that an event leads to. Nothing else changes a patient's state.
pub fn next_state(before: PatientState, event: Event) -> PatientState {
    use PatientState::*;
    match (before, event) {
        (_, Event::PullFinished) => Active,
        (_, Event::Purged(PurgeReason::ConsentRevoked)) => Revoked,
        // Not undone by the next cycle.
        (_, Event::Purged(PurgeReason::Operator)) => Paused,
        // Listed again, it is pulled like anyone new.
        (_, Event::Purged(PurgeReason::Roster)) => New,
        // Consented again by the records, and refused all the same.
        (Revoked, Event::Held(HeldWhy::Contradicted)) => Held,
        // Already purged: there is nothing left to hold back.
        (Revoked, Event::Refused | Event::Held(_)) => Revoked,
        (_, Event::Held(_)) | (Held, Event::Refused) => Held,
        (_, Event::Refused) => Refused,
        // No answer says nothing about consent: what is known of it stands.
        (Revoked | Held | Refused, Event::PersonUnknown | Event::PullFailed) => before,
        (_, Event::PersonUnknown) => NotFound,
        (New | Active | Failing | NotFound | Paused, Event::PullFailed) => Failing,
        (Held | Refused, Event::StillPermitted) => Active,
        (_, Event::StillPermitted | Event::CheckFailed) => before,
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
        for verdict in [Revoked, Held, Refused] {
            check(verdict, Event::PullFailed, verdict);
            check(verdict, Event::PersonUnknown, verdict);
            check(verdict, Event::Refused, verdict);
        }
        for before in [New, Active, Failing, NotFound, Paused] {
            check(before, Event::PullFailed, Failing);
            check(before, Event::CheckFailed, before);
            check(before, Event::PersonUnknown, NotFound);
            check(before, Event::Refused, Refused);
            check(before, Event::StillPermitted, before);
        }
        for why in HeldWhy::ALL {
            for before in [New, Active, Refused, Failing, NotFound, Held, Paused] {
                check(before, Event::Held(why), Held);
            }
            let purged = if why == HeldWhy::Contradicted { Held } else { Revoked };
            check(Revoked, Event::Held(why), purged);
        }
        check(Held, Event::StillPermitted, Active);
        check(Refused, Event::StillPermitted, Active);
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
