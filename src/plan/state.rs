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

/// Why a patient who was refused or withdrawn is not purged; the `held_why` column of `checkpoint`, by
/// the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// The held patients that an operator has to deal with in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldKind {
    pub why: HeldWhy,
    /// Whether HealthEx refuses them. Else it permits those of whom its record says that the consent has ended.
    pub is_refused: bool,
}

impl HeldKind {
    /// Reads the columns `held_why` and `refused_at`.
    pub fn read(why: Option<&str>, refused_at: Option<&str>) -> Self {
        match why.and_then(HeldWhy::parse) {
            Some(why) => Self { why, is_refused: refused_at.is_some() },
            // Before there was another reason, it was always this one.
            None => Self { why: HeldWhy::Many, is_refused: true },
        }
    }

    /// Says what is known of such patients, and what to do; commands are in backquotes.
    pub fn describe(self) -> &'static str {
        match (self.why, self.is_refused) {
            (HeldWhy::Alone, true) => {
                "refused, while nobody else was permitted, so it may be our access that is broken: if it is, mend the API key's permissions. They are asked again each cycle, and taken as withdrawn after `consent.alone_after`, or by `healthex-sync purge --held --yes`"
            }
            (HeldWhy::Many, true) => {
                "withdrawn, and too many at once to be purged unasked. If these are withdrawals: `healthex-sync purge --held --yes`; if not, mend the API key's permissions, then `healthex-sync sync`"
            }
            (HeldWhy::Token, true) => {
                "refused, and there is no other token to ask again with. If these are withdrawals: `healthex-sync purge --held --yes`; if not, mend the token's permissions, then `healthex-sync sync`"
            }
            (HeldWhy::Contradicted, true) => {
                "refused, while the consent record says that the patient consents: it is our access that is broken. Mend the API key's permissions, then `healthex-sync sync`"
            }
            (HeldWhy::Many, false) => {
                "permitted, while the consent record says withdrawn or expired, and too many at once to be purged unasked. They are not pulled; `healthex-sync purge ID --yes` purges one"
            }
            (HeldWhy::Alone | HeldWhy::Token | HeldWhy::Contradicted, false) => {
                "permitted, while the consent record says withdrawn or expired. They are not pulled, and purged once the record has said so for `consent.alone_after`; `healthex-sync purge ID --yes` purges one at once"
            }
        }
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
    /// The first page of a pull is stored.
    PullBegan,
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

/// Those that are new as soon as a pull of them stores something, however it ends: permitted again, a purged
/// patient holds rows like anyone else, and one that an operator has purged does not wait to be asked for
/// again, as a withdrawal would go unseen meanwhile.
pub(crate) const NEW_WHEN_PULLED: [PatientState; 2] = [PatientState::Revoked, PatientState::Paused];

/// Returns the state that an event leads to. Nothing else changes a patient's state.
pub fn next_state(before: PatientState, event: Event) -> PatientState {
    use PatientState::*;
    match (before, event) {
        (_, Event::PullBegan) if NEW_WHEN_PULLED.contains(&before) => New,
        (_, Event::PullBegan) => before,
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
            check(before, Event::PullBegan, if matches!(before, Revoked | Paused) { New } else { before });
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

    #[test]
    fn a_reason_is_read_by_the_name_that_the_column_has() {
        let held = ["alone", "many", "contradicted", "token"];
        assert_eq!(HeldWhy::ALL.map(HeldWhy::as_str), held);
        assert_eq!(held.map(HeldWhy::parse), HeldWhy::ALL.map(Some));
        let purged = ["consent_revoked", "operator", "roster"];
        assert_eq!(PurgeReason::ALL.map(PurgeReason::as_str), purged);
        assert_eq!(purged.map(PurgeReason::parse), PurgeReason::ALL.map(Some));
        assert_eq!((HeldWhy::parse("asleep"), PurgeReason::parse("asleep")), (None, None));
    }

    #[test]
    fn who_is_permitted_and_held_is_not_called_refused() {
        for why in HeldWhy::ALL {
            for refused_at in [None, Some("2026-11-26T10:00:00Z")] {
                let kind = HeldKind::read(Some(why.as_str()), refused_at);
                assert_eq!(kind, HeldKind { why, is_refused: refused_at.is_some() });
                let told = kind.describe();
                assert_eq!(told.starts_with("permitted, "), !kind.is_refused, "{told}");
                assert_eq!(told.matches('`').count() % 2, 0, "{told}");
                // `purge --held` leaves those alone that are permitted.
                assert!(kind.is_refused || !told.contains("purge --held"), "{told}");
            }
        }
        assert_eq!(HeldKind::read(None, None), HeldKind { why: HeldWhy::Many, is_refused: true });
    }
}
