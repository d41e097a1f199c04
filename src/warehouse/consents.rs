//! The part of the door that keeps what HealthEx's consent records say.

use super::failure::StoreFailed;
use super::report::ExpiringConsents;
use super::{Reader, Warehouse};
use crate::plan::records::{ConsentToLookAt, ConsentsUpdate, KeptConsents, ScopesSeen};
use crate::plan::{PersonId, Timestamp};

impl Warehouse {
    /// Returns whether anything is kept of consent records.
    pub(crate) async fn has_consents(&self) -> Result<bool, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.has_consents().await,
            Self::Postgres(engine) => engine.has_consents().await,
            Self::Rehearsal(rehearsal) => Ok(!rehearsal.consents()?.studies.is_empty()),
        }
    }

    /// Returns all that is kept of consent records, and of whom the warehouse knows.
    pub(crate) async fn consents(&self) -> Result<KeptConsents, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.consents().await,
            Self::Postgres(engine) => engine.consents().await,
            Self::Rehearsal(rehearsal) => rehearsal.consents(),
        }
    }

    /// Takes a reading of the consent records over.
    pub(crate) async fn note_consents(
        &self,
        update: ConsentsUpdate,
        now: Timestamp,
    ) -> Result<(), StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.note_consents(update, now).await,
            Self::Postgres(engine) => engine.note_consents(update, now).await,
            Self::Rehearsal(rehearsal) => {
                rehearsal.note_consents(update, now);
                Ok(())
            }
        }
    }

    /// Returns the consents whose scopes were looked at longest ago.
    pub(crate) async fn consents_to_look_at(&self, most: usize) -> Result<Vec<ConsentToLookAt>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.consents_to_look_at(most).await,
            Self::Postgres(engine) => engine.consents_to_look_at(most).await,
            Self::Rehearsal(rehearsal) => rehearsal.consents_to_look_at(most),
        }
    }

    /// Notes what consents were seen to let through. Returns the patients for whom that has changed:
    /// they are pulled in full.
    pub(crate) async fn note_scopes(
        &self,
        seen: Vec<ScopesSeen>,
        now: Timestamp,
    ) -> Result<Vec<PersonId>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.note_scopes(seen, now).await,
            Self::Postgres(engine) => engine.note_scopes(seen, now).await,
            Self::Rehearsal(rehearsal) => rehearsal.note_scopes(&seen),
        }
    }

    /// Returns the consents that run out until then, where there are any and they were not told within
    /// a day, and notes that they are told now.
    pub async fn tell_expiring(
        &self,
        until: Timestamp,
        most: usize,
        now: Timestamp,
    ) -> Result<Option<ExpiringConsents>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.tell_expiring(until, most, now).await,
            Self::Postgres(engine) => engine.tell_expiring(until, most, now).await,
            Self::Rehearsal(_) => Ok(None),
        }
    }
}

impl Reader {
    /// Returns all that is kept of consent records, and of whom the warehouse knows.
    pub(crate) fn consents(&self) -> Result<KeptConsents, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.consents(),
            Self::Postgres(engine) => engine.consents(),
        }
    }

    /// Returns the consents that run out until then.
    pub fn expiring_consents(
        &self,
        now: Timestamp,
        until: Timestamp,
        most: usize,
    ) -> Result<ExpiringConsents, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.expiring_consents(now, until, most),
            Self::Postgres(engine) => engine.expiring_consents(now, until, most),
        }
    }
}
