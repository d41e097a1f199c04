//! The ledger of purges and this engine: read when the file is opened, and written within the transaction
//! of a purge.
//!
//! Promise: a purge that the ledger knows and the file does not, as after a restore or a crash, is
//! carried out before anything else is done with the file.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::{checkpoint, purge};
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp, parse_stamp};
use crate::warehouse::beside::ledger;
use crate::warehouse::beside::ledger::{
    Found, Known, Ledger, PurgeKey, ToNote, UnknownPurge, new_id, tell_carried_out,
};
use crate::warehouse::beside::ledger_text::{Entry, EntryKind, PurgeEntry};
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::place::Place;
use crate::warehouse::purge::{CarriedOut, Erased, LedgerReport, Purge};

const WAREHOUSE_ID: &str = "warehouse_id";
/// The hash of the line that this warehouse wrote or read last.
const LEDGER_HEAD: &str = "ledger_head";

/// Refuses to make a warehouse where there is a ledger already: that of one which was lost.
pub(super) fn expect_none(place: &Place) -> Result<(), OpenFailed> {
    let ledger = ledger::resolve(place);
    if std::fs::symlink_metadata(&ledger).is_err() {
        return Ok(());
    }
    Err(OpenFailed::LedgerWithoutWarehouse { path: place.path().to_owned(), ledger })
}

/// Gives a new warehouse the id by which its ledger names it.
pub(super) fn note_new_id(connection: &Connection) -> Result<(), StoreFailed> {
    note(connection, &ToNote { id: Some(new_id()), head: None })
}

/// Compares ledger and warehouse, which is this account's or not. Changes neither.
pub(super) fn report(path: &Path, connection: &Connection, owned: bool) -> Result<LedgerReport, StoreFailed> {
    Ok(ledger::report(path, &known(connection)?, owned))
}

/// Reads the ledger, makes it where there is none, and carries out what the warehouse does not
/// know of it. The fault of a ledger is no failure of this.
pub(super) fn open(
    path: PathBuf,
    connection: &mut Connection,
    now: Timestamp,
) -> Result<Ledger, StoreFailed> {
    let mut ledger = Ledger::unread(path);
    read(&mut ledger, connection, now)?;
    Ok(ledger)
}

fn read(ledger: &mut Ledger, connection: &mut Connection, now: Timestamp) -> Result<(), StoreFailed> {
    let known = known(connection)?;
    let mut carried_out = Vec::new();
    match ledger.look(&known) {
        Found::Nothing => begin(ledger, connection, known.id, now)?,
        Found::Text(text) => {
            let (unknown, to_note) = ledger.take_over(&text, &known);
            if !unknown.is_empty() || to_note.is_news(&known) {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                carried_out = carry_out(&transaction, &unknown, now)?;
                note(&transaction, &to_note)?;
                transaction.commit()?;
            }
        }
        Found::Unusable => {}
    }
    if !ledger.has_been_read(carried_out) {
        ledger.take_purged(purged_now(connection)?);
    }
    Ok(())
}

/// Makes the ledger of a warehouse that has none, with the purges that it knows.
fn begin(
    ledger: &mut Ledger,
    connection: &mut Connection,
    id: Option<String>,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    let Some(to_note) = ledger.begin(id, &entries_of(connection, now)?) else { return Ok(()) };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    note(&transaction, &to_note)?;
    Ok(transaction.commit()?)
}

/// Runs `work`, which purges and writes its line, in a transaction of its own.
pub(super) fn in_transaction<T>(
    ledger: &mut Ledger,
    connection: &mut Connection,
    now: Timestamp,
    work: impl FnOnce(&Connection, &mut Ledger) -> Result<T, StoreFailed>,
) -> Result<T, StoreFailed> {
    if ledger.is_ahead() {
        // A line was written, and its purge not committed: it is carried out now.
        read(ledger, connection, now)?;
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction, ledger)?;
    #[cfg(test)]
    crate::simulation::stage::before_a_purge();
    transaction.commit()?;
    #[cfg(test)]
    crate::simulation::stage::beside_a_commit();
    ledger.has_committed();
    Ok(done)
}

/// Writes the line of a purge that is committed next. `Ok` means that it is on the disk.
pub(super) fn note_purge(
    ledger: &mut Ledger,
    transaction: &Connection,
    purge: &Purge<'_>,
    erased: &Erased,
) -> Result<(), StoreFailed> {
    let head = ledger.write_purge(purge, erased)?;
    note(transaction, &ToNote { id: None, head: Some(head) })
}

/// Writes that a patient who was purged is pulled again.
pub(super) fn note_returned(
    ledger: &mut Ledger,
    transaction: &Connection,
    person: &PersonId,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    let head = ledger.write_returned(person, now)?;
    note(transaction, &ToNote { id: None, head: Some(head) })
}

/// Carries out on one file what another one's log of purges knows.
pub(super) fn carry_out_log_of(
    other: &Connection,
    connection: &mut Connection,
    now: Timestamp,
) -> Result<Vec<CarriedOut>, StoreFailed> {
    let unknown = ledger::unknown(&known(connection)?, &entries_of(other, now)?);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let carried_out = carry_out(&transaction, &unknown, now)?;
    transaction.commit()?;
    Ok(carried_out)
}

/// Begins another ledger in place of one that is lost or damaged, with the purges that the
/// warehouse knows. Returns where the former one is now.
pub(super) fn begin_anew(
    path: &Path,
    connection: &mut Connection,
    now: Timestamp,
) -> Result<Option<PathBuf>, StoreFailed> {
    let mut ledger = Ledger::unread(path.to_owned());
    let kept = ledger.set_aside(now)?;
    connection.execute("DELETE FROM about WHERE name = ?1", [LEDGER_HEAD])?;
    let id = noted(connection, WAREHOUSE_ID)?;
    begin(&mut ledger, connection, id, now)?;
    ledger.fault().map_or(Ok(kept), |fault| Err(StoreFailed::Ledger(fault)))
}

/// Returns what the warehouse knows of its purges.
fn known(connection: &Connection) -> Result<Known, StoreFailed> {
    let mut statement = connection.prepare("SELECT person_id, purged_at FROM purge_log")?;
    let purges =
        statement.query_map([], |row| Ok(PurgeKey { person: row.get(0)?, purged_at: row.get(1)? }))?;
    let id = noted(connection, WAREHOUSE_ID)?;
    Ok(Known {
        has_ledger: id.is_some(),
        id,
        head: noted(connection, LEDGER_HEAD)?,
        purges: purges.collect::<Result<_, _>>()?,
    })
}

/// Erases who was purged and is there again. A purge after which the patient returned is only put
/// back into `purge_log`.
fn carry_out(
    connection: &Connection,
    unknown: &[UnknownPurge],
    now: Timestamp,
) -> Result<Vec<CarriedOut>, StoreFailed> {
    let mut carried_out = Vec::new();
    for unknown in unknown {
        if unknown.has_returned {
            purge::log(connection, &unknown.purge(now), None, &unknown.erased())?;
        } else {
            if unknown.is_by_hand() {
                checkpoint::remember(connection, &unknown.person, now)?;
            }
            carried_out.push(unknown.carried_out(&purge::erase(connection, &unknown.purge(now))?));
        }
    }
    tell_carried_out(&carried_out);
    Ok(carried_out)
}

/// Returns what `purge_log` knows as a ledger tells it.
fn entries_of(connection: &Connection, now: Timestamp) -> Result<Vec<Entry>, StoreFailed> {
    let damaged = |what: &str| StoreFailed::Damaged(format!("purge_log.{what} cannot be read"));
    let person_of = |text: String| PersonId::parse(&text).map_err(|_| damaged("person_id"));
    let mut statement = connection.prepare(
        "SELECT person_id, reason, by, refused_at, purged_at, rows_by_table FROM purge_log ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let purge = PurgeEntry {
            reason: PurgeReason::parse(&row.get::<_, String>(1)?).ok_or_else(|| damaged("reason"))?,
            by: row.get(2)?,
            refused_at: row.get::<_, Option<String>>(3)?.as_deref().and_then(parse_stamp),
            rows_by_table: serde_json::from_str(&row.get::<_, String>(5)?).unwrap_or_default(),
        };
        entries.push(Entry {
            time: parse_stamp(&row.get::<_, String>(4)?).ok_or_else(|| damaged("purged_at"))?,
            person: person_of(row.get(0)?)?,
            kind: EntryKind::Purge(purge),
        });
    }
    let mut statement = connection.prepare(
        "SELECT person_id FROM checkpoint WHERE holds_rows = 1 AND person_id IN (SELECT person_id FROM purge_log)",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        entries.push(Entry { time: now, person: person_of(row.get(0)?)?, kind: EntryKind::Returned });
    }
    Ok(entries)
}

/// Returns who is purged by the checkpoints, where no ledger tells it.
fn purged_now(connection: &Connection) -> Result<Vec<PersonId>, StoreFailed> {
    let mut statement = connection.prepare("SELECT person_id FROM checkpoint WHERE purged_at IS NOT NULL")?;
    let ids = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(ids.iter().filter_map(|id| PersonId::parse(id).ok()).collect())
}

fn noted(connection: &Connection, name: &str) -> Result<Option<String>, StoreFailed> {
    let found = connection
        .query_row("SELECT value FROM about WHERE name = ?1", [name], |row| row.get(0))
        .optional()?;
    Ok(found)
}

fn note(connection: &Connection, ToNote { id, head }: &ToNote) -> Result<(), StoreFailed> {
    let noted = [(WAREHOUSE_ID, id), (LEDGER_HEAD, head)];
    for (name, value) in noted.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        connection.execute(
            "INSERT INTO about (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            [name, value],
        )?;
    }
    Ok(())
}
