//! The words for one pull of one patient.

use super::page::ShortNote;
use crate::plan::checkpoint::Checkpoint;
use crate::plan::state::Event;
use crate::plan::{PersonId, PullMode, Timestamp, TypeFilter};

/// The right to pull one patient. In SQLite the lock on the file is what gives it.
#[derive(Clone, Debug)]
pub struct Lease {
    pub checkpoint: Checkpoint,
    /// Grows whenever another takes the patient over, where workers share a roster; else 0.
    pub fence: i64,
}

impl Lease {
    /// Returns the right to pull a patient whom nobody else can take over.
    pub(crate) fn alone(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, fence: 0 }
    }

    pub fn person(&self) -> &PersonId {
        &self.checkpoint.person
    }
}

/// The answer to a move of a pull.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced<T> {
    /// Committed.
    Kept(T),
    /// Another pull of this patient has taken over: nothing of the move is kept.
    Superseded,
}

/// What stays the same from a pull's first page to its last.
#[derive(Clone, Debug)]
pub struct PullHead {
    pub person: PersonId,
    pub mode: PullMode,
    pub types: TypeFilter,
    pub started_at: Timestamp,
    pub since: Option<Timestamp>,
    /// Whether it goes on where an earlier process or attempt was interrupted.
    pub is_resumed: bool,
}

/// What a pull has cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct PullCost {
    /// Its row in `pull`; `None` until something is stored.
    pub row: Option<i64>,
    pub pages: u64,
    pub requests: u64,
    pub bytes: u64,
    pub entries: u64,
}

/// The `outcome` column of `pull`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullOutcome {
    Ok,
    Revoked,
    Held,
    NotFound,
    Failed,
    Interrupted,
}

impl PullOutcome {
    /// Returns the outcome's name in the `outcome` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Revoked => "revoked",
            Self::Held => "held",
            Self::NotFound => "not_found",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How a pull ended that did not finish.
#[derive(Clone, Debug)]
pub struct PullEnded {
    pub head: PullHead,
    pub cost: PullCost,
    /// Whether it has stored anything, so that another pull may have taken it over.
    pub is_marked: bool,
    pub outcome: PullOutcome,
    /// What `pull.error` says.
    pub error: Option<String>,
    /// What it does to the patient; `None` where it was nobody's fault.
    pub setback: Option<Setback>,
}

/// What a pull or a question that did not end well does to its patient's checkpoint.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is said of the answer by itself")]
pub struct Setback {
    pub event: Event,
    /// What an operator is told in `last_error`; `None` clears it.
    pub error: Option<String>,
    /// The daemon leaves the patient alone until then.
    pub next_attempt_at: Option<Timestamp>,
    /// Whether the server answered about this patient: 200, 403 or 404.
    pub was_answered: bool,
    /// Whether it permitted the patient to be read, so that no row of refusals goes on.
    pub was_permitted: bool,
    /// Whether the server answered neither yes nor no, which ends a row of refusals.
    pub breaks_row: bool,
    /// Whether the interrupted pull is forgotten, so that the next one begins at its beginning.
    pub forgets_pull: bool,
    /// What is noted of a pull that was short.
    pub short: Option<ShortNote>,
}

impl Setback {
    /// Returns what an answer about the patient does that brings `event` about, and nothing beside.
    pub(crate) fn answered(event: Event) -> Self {
        Self {
            event,
            error: None,
            next_attempt_at: None,
            was_answered: true,
            was_permitted: false,
            breaks_row: false,
            forgets_pull: false,
            short: None,
        }
    }

    /// Returns whether it counts among the failures in a row.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.event, Event::PullFailed | Event::CheckFailed)
    }

    /// Returns whether it begins a row of refusals, or goes on with it.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.event, Event::Refused | Event::Held(_)) && !self.was_permitted
    }

    /// Returns whether it ends a row of refusals.
    pub(super) fn is_permission(&self) -> bool {
        self.event == Event::StillPermitted || self.was_permitted
    }

    /// Returns what the `held_why` column is to say; `None` changes nothing.
    pub(super) fn held_why(&self) -> Option<&'static str> {
        match self.event {
            Event::Held(why) => Some(why.as_str()),
            _ => None,
        }
    }

    /// Returns what a refusal does until a round has judged it.
    pub(crate) fn refused() -> Self {
        let error = Some("refused (403); asked again before it is believed".to_owned());
        Self { error, ..Self::answered(Event::Refused) }
    }
}
