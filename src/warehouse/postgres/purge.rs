//! Erases the rows of a patient, in one transaction, and keeps the log of it.
//!
//! Promise: nobody can read them once that is committed. The server's files keep their bytes until the
//! tables are rewritten, its log and its backups for as long as they are kept: until then `scrubbed_at`
//! is NULL.

use super::checkpoint::drop_pull;
use super::failure::Undone;
use super::session::{Session, together};
use super::tables;
use super::values::counted;
use crate::plan::state::{Event, PatientState, PurgeReason, next_state};
use crate::plan::{PersonId, Timestamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::purge::{BOOKKEEPING, Erased, OUTLIVE_A_PURGE, Purge};

/// Removes every row of the patient in every table that has a `person_id`, and what the
/// checkpoint knows of it, and logs it. Runs inside a transaction.
pub(super) async fn erase(session: &Session, purge: &Purge<'_>) -> Result<Erased, Undone> {
    let person = purge.person.as_str();
    lock(session, person).await?;
    let first_row_at = tables::first_row_at(session, person).await?;
    let erased = remove_rows(session, person).await?;
    log(session, purge, first_row_at, &erased).await?;
    forget(session, purge.person, purge.reason, purge.now).await?;
    Ok(erased)
}

/// Locks the checkpoint: it is locked before resources, and these before the rest, by whoever writes.
async fn lock(session: &Session, person: &str) -> Result<(), Undone> {
    session.rows("SELECT 1 FROM checkpoint WHERE person_id = $1 FOR UPDATE", &[&person]).await?;
    Ok(())
}

async fn remove_rows(session: &Session, person: &str) -> Result<Erased, Undone> {
    let tables = purged_tables(session).await?;
    let deleted = tables.iter().map(|table| async move {
        session.execute(&format!("DELETE FROM \"{table}\" WHERE person_id = $1"), &[&person]).await
    });
    let rows = together(deleted).await?;
    Ok(erased_of(tables, rows))
}

fn erased_of(tables: Vec<String>, rows: Vec<u64>) -> Erased {
    let counted = tables.into_iter().zip(rows);
    let told = counted.filter(|(table, rows)| *rows > 0 && !BOOKKEEPING.contains(&table.as_str()));
    Erased { rows_by_table: told.collect() }
}

/// Counts what a purge would remove. Only reads.
pub(super) async fn erasable(session: &Session, person: &PersonId) -> Result<Option<Erased>, Undone> {
    let tables = purged_tables(session).await?;
    let person = person.as_str();
    let counts = tables.iter().map(|table| async move {
        let count = format!("SELECT count(*) FROM \"{table}\" WHERE person_id = $1");
        Ok(counted(session.row(&count, &[&person]).await?.try_get(0)?))
    });
    let rows = together(counts).await?;
    Ok(Some(erased_of(tables, rows)).filter(|erased| !erased.rows_by_table.is_empty()))
}

/// Every table that holds rows of patients and goes with them, found from the schema itself, so that one
/// added later cannot be forgotten.
pub(super) async fn purged_tables(session: &Session) -> Result<Vec<String>, Undone> {
    let statement = "SELECT c.relname::text FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
          WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
            AND a.attname = 'person_id' AND NOT a.attisdropped ORDER BY 1";
    let names = session.rows(statement, &[]).await?;
    let names = names.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<Vec<String>, Undone>>()?;
    Ok(names.into_iter().filter(|name| !OUTLIVE_A_PURGE.contains(&name.as_str())).collect())
}

/// Writes a purge into `purge_log`.
pub(super) async fn log(
    session: &Session,
    purge: &Purge<'_>,
    first_row_at: Option<Timestamp>,
    erased: &Erased,
) -> Result<(), Undone> {
    let rows_by_table = serde_json::to_string(&erased.rows_by_table)
        .map_err(|error| StoreFailed::Data(format!("counting erased rows: {error}")))?;
    let Purge { person, reason, by, refused_at, confirmed_at, now, carried_out_at } = *purge;
    session
        .execute(
            include_str!("../../../schema/postgres/log_purge.sql"),
            &[
                &person.as_str(),
                &reason.as_str(),
                &by,
                &refused_at,
                &confirmed_at,
                &now,
                &first_row_at,
                &carried_out_at,
                &rows_by_table,
            ],
        )
        .await?;
    Ok(())
}

/// Forgets a patient whose consent is withdrawn and of whom no resource was stored: nothing is logged.
/// What else has its id goes as it does by a purge.
pub(super) async fn revoke_without_rows(
    session: &Session,
    person: &PersonId,
    now: Timestamp,
) -> Result<(), Undone> {
    lock(session, person.as_str()).await?;
    remove_rows(session, person.as_str()).await?;
    forget(session, person, PurgeReason::ConsentRevoked, now).await
}

/// Forgets what is known of a patient beside its id, when its rows are gone.
async fn forget(
    session: &Session,
    person: &PersonId,
    reason: PurgeReason,
    now: Timestamp,
) -> Result<(), Undone> {
    drop_pull(session, person).await?;
    let state = next_state(PatientState::Active, Event::Purged(reason)).as_str();
    let forget = include_str!("../../../schema/postgres/forget_patient.sql");
    session.execute(forget, &[&person.as_str(), &state, &now, &reason.as_str()]).await?;
    let unname = "UPDATE roster SET label = NULL WHERE person_id = $1 AND label IS NOT NULL";
    session.execute(unname, &[&person.as_str()]).await?;
    Ok(())
}
