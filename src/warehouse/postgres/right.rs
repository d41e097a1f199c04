//! By which right something is written, which is looked at in the transaction that writes it.

use std::sync::Arc;

use super::failure::Undone;
use super::lease::expect_held;
use super::session::Session;
use super::workers::{are_fences_down, expect_leased};
use crate::plan::PersonId;

/// By which right something is written.
#[derive(Clone)]
pub(super) enum Right {
    /// Of the one that leads.
    Lead(Arc<str>),
    /// Of the worker that holds a patient, by its fence.
    Holder { owner: Arc<str>, person: PersonId, fence: i64 },
    /// Whoever may write to the tables may do it at any time.
    Anybody,
}

impl Right {
    /// Refuses the work of a process that has it no longer.
    pub(super) async fn check(&self, session: &Session) -> Result<(), Undone> {
        match self {
            Self::Lead(owner) => expect_held(session, owner).await,
            Self::Holder { .. } if are_fences_down() => Ok(()),
            Self::Holder { owner, person, fence } => expect_leased(session, person, owner, *fence).await,
            Self::Anybody => Ok(()),
        }
    }
}
