//! What is noted of pulls that bring less than the server counts, or more than was asked for.

use super::failure::Undone;
use super::session::Session;
use super::values::{Columns, count, counted};
use crate::plan::since::{SinceFacts, pulls_ignored};
use crate::plan::{PullMode, Timestamp};
use crate::warehouse::page::{Brought, ShortNote, ShortfallChange};
use crate::warehouse::pull::PullHead;

/// How much the pulls before have brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct BroughtBefore {
    /// By the last full pull.
    full_entries: Option<i64>,
    last_full_at: Option<Timestamp>,
    /// How many pulls in a row have brought everything, whatever was asked for.
    since_ignored: u64,
}

impl BroughtBefore {
    pub(super) fn of(checkpoint: &Columns<'_>) -> Result<Self, Undone> {
        Ok(Self {
            full_entries: checkpoint.get("full_entries")?,
            last_full_at: checkpoint.get("last_full_at")?,
            since_ignored: counted(checkpoint.get("since_ignored")?),
        })
    }
}

/// Notes how much a pull has brought. Returns how many pulls in a row have brought everything, whatever was
/// asked for.
pub(super) async fn note_brought(
    session: &Session,
    head: &PullHead,
    before: BroughtBefore,
    brought: Option<Brought>,
    has_news: bool,
) -> Result<u64, Undone> {
    let Some(brought) = brought else { return Ok(0) };
    let person = head.person.as_str();
    let Some(since) = head.since else {
        let statement = "UPDATE checkpoint SET full_entries = $2 WHERE person_id = $1";
        session.execute(statement, &[&person, &count(brought.entries)]).await?;
        return Ok(0);
    };
    let BroughtBefore { full_entries: Some(full_entries), last_full_at: Some(last_full_at), since_ignored } =
        before
    else {
        return Ok(0);
    };
    let facts = SinceFacts {
        since,
        entries: brought.entries,
        full_entries: counted(full_entries),
        brought_news: has_news,
        newest: brought.newest,
        last_full_at,
    };
    let pulls = pulls_ignored(since_ignored, facts);
    if pulls != since_ignored {
        let statement = "UPDATE checkpoint SET since_ignored = $2 WHERE person_id = $1";
        session.execute(statement, &[&person, &count(pulls)]).await?;
    }
    Ok(pulls)
}

/// Notes by how much, and since when, a patient's pulls fall short of what the server counts.
pub(super) async fn note(
    session: &Session,
    head: &PullHead,
    shortfall: ShortfallChange,
) -> Result<(), Undone> {
    let (person, is_full) = (head.person.as_str(), head.mode == PullMode::Full);
    match shortfall {
        ShortfallChange::Keep => {}
        ShortfallChange::Clear => {
            let statement = "UPDATE checkpoint
                    SET short_since = NULL, short_fingerprint = NULL, short_by = NULL, short_in_full = NULL
                  WHERE person_id = $1 AND short_by IS NOT NULL AND ($2 OR NOT short_in_full)";
            session.execute(statement, &[&person, &is_full]).await?;
        }
        ShortfallChange::Note(ShortNote { by, since }) => {
            let statement = "UPDATE checkpoint
                    SET short_since = $2, short_fingerprint = $3, short_by = $4, short_in_full = $5
                  WHERE person_id = $1 AND ($5 OR $2 IS NOT NULL OR NOT coalesce(short_in_full, false))";
            let fingerprint = since.map(|since| since.fingerprint.cast_signed());
            let since = since.map(|since| since.since);
            session.execute(statement, &[&person, &since, &fingerprint, &count(by), &is_full]).await?;
        }
    }
    Ok(())
}
