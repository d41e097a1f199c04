//! One row for each pull of a patient: what an operator looks at afterwards.

use super::failure::Undone;
use super::session::Session;
use super::values::{Param, count, span};
use crate::plan::Timestamp;
use crate::warehouse::page::Tally;
use crate::warehouse::pull::{PullCost, PullEnded, PullHead, PullOutcome};

/// Rows older than this go.
const KEPT: std::time::Duration = std::time::Duration::from_hours(30 * 24);

/// How a pull ended: its outcome, what is said of it, and when.
pub(super) struct End<'e> {
    pub(super) outcome: PullOutcome,
    pub(super) error: Option<&'e str>,
    pub(super) at: Timestamp,
}

/// Writes what a pull has cost so far, adds what it has changed, and notes its end. Returns its id.
pub(super) async fn note(
    session: &Session,
    head: &PullHead,
    cost: &PullCost,
    tally: Tally,
    end: Option<&End<'_>>,
) -> Result<i64, Undone> {
    let (finished_at, outcome) = (end.map(|end| end.at), end.map(|end| end.outcome.as_str()));
    let error = end.and_then(|end| end.error);
    let Tally { inserted, updated, unchanged, deleted, quarantined } = tally;
    let PullCost { pages, requests, bytes, entries, .. } = *cost;
    let counts =
        [pages, requests, bytes, entries, inserted, updated, unchanged, deleted, quarantined].map(count);
    let person = head.person.as_str();
    let mut told: Vec<&dyn Param> = vec![&person, &finished_at, &outcome, &error];
    told.extend(counts.iter().map(|count| -> &dyn Param { count }));
    if let Some(row) = cost.row {
        let note = include_str!("../../../schema/postgres/note_pull.sql");
        let told = [told.as_slice(), &[&row]].concat();
        if let Some(noted) = session.row_or_none(note, &told).await? {
            return Ok(noted.try_get(0)?);
        }
        // It went with a purge: what follows is a pull of its own.
    }
    let begin = include_str!("../../../schema/postgres/begin_pull_row.sql");
    let mode = head.mode.as_str();
    told.extend([&mode as &dyn Param, &head.since, &head.started_at]);
    Ok(session.row(begin, &told).await?.try_get(0)?)
}

/// Returns whether the pull has changed anything so far, by its row.
pub(super) async fn has_changed(session: &Session, cost: &PullCost) -> Result<bool, Undone> {
    let Some(row) = cost.row else { return Ok(false) };
    let statement = "SELECT 1 FROM pull WHERE id = $1 AND inserted + updated > 0";
    Ok(session.row_or_none(statement, &[&row]).await?.is_some())
}

/// Writes the end of a pull that did not finish.
pub(super) async fn note_end(session: &Session, ended: &PullEnded, now: Timestamp) -> Result<(), Undone> {
    let end = End { outcome: ended.outcome, error: ended.error.as_deref(), at: now };
    note(session, &ended.head, &ended.cost, Tally::default(), Some(&end)).await?;
    Ok(())
}

/// Says of pulls that a kill cut off that they were; not of those that other workers are at.
pub(super) async fn close_cut_off(session: &Session, now: Timestamp) -> Result<(), Undone> {
    let statement = "UPDATE pull SET finished_at = $1, outcome = 'interrupted', error = 'the process ended before the pull did'
          WHERE finished_at IS NULL AND person_id NOT IN (SELECT person_id FROM checkpoint WHERE owner IS NOT NULL)";
    session.execute(statement, &[&now]).await?;
    Ok(())
}

/// Removes old rows, which keeps the table from growing for ever.
pub(super) async fn prune(session: &Session, now: Timestamp) -> Result<(), Undone> {
    let Some(limit) = now.checked_sub_signed(span(KEPT)) else { return Ok(()) };
    session.execute("DELETE FROM pull WHERE finished_at < $1", &[&limit]).await?;
    Ok(())
}

/// Returns when the oldest pull began that is still known.
pub(super) async fn first_started_at(session: &Session) -> Result<Option<Timestamp>, Undone> {
    let first = session.row_or_none("SELECT started_at FROM pull ORDER BY id LIMIT 1", &[]).await?;
    Ok(first.map(|row| row.try_get(0)).transpose()?)
}
