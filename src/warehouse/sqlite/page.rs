//! What is true of one patient's rows after a page, a crash or a restart.
//!
//! Promise: rows, the marks of what was seen and the progress of the pull change in one
//! transaction, so the checkpoint never points past data we have, and a page that is sent
//! again changes nothing. Absent on purpose: any DELETE of a purge.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::analyst_tables::{AnalystTables, Change, Changed, Changes};
use super::checkpoint::Finished;
use super::failure::Undone;
use super::pulls::End;
use super::{checkpoint, pulls, sweep, tables};
use crate::plan::duplicate::replaces;
use crate::plan::row::{KeyHash, Quarantined, Row};
use crate::plan::{PullMode, Timestamp, stamp};
use crate::views::KeptRows;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::{
    Batch, Completion, IncomingRow, PullProgress, StoredBatch, SweepOutcome, Tally, WalkMark,
};
use crate::warehouse::pull::{PullCost, PullHead, PullOutcome};

/// A batch, and what its rows give their views as far as that was worked out before: nothing, or
/// one for each row.
pub(super) struct EvaluatedBatch {
    pub(super) batch: Batch,
    pub(super) gained: Vec<Option<KeptRows>>,
}

/// Stores a batch and the fact that it is stored, or neither. Runs inside a transaction.
pub(super) fn store(
    connection: &Connection,
    analyst_tables: &AnalystTables,
    head: &PullHead,
    cost: PullCost,
    EvaluatedBatch { batch, gained }: &EvaluatedBatch,
    now: Timestamp,
) -> Result<StoredBatch, Undone> {
    let mut mark = PullMark { connection, head, is_set: cost.row.is_some() || head.is_resumed };
    let mut upserts =
        Upserts { connection, person: head.person.as_str(), now: stamp(now), changes: Changes::default() };
    let mut tally = upserts.rows(&batch.rows, gained)?;
    tally.quarantined = upserts.quarantine(&batch.quarantined)?;
    let renamed = head.mode == PullMode::Incremental && upserts.met_a_renamed_entry()?;
    let mut changes = upserts.changes;
    let mut stored = StoredBatch { tally, renamed, ..StoredBatch::default() };
    let mut note = None;
    let mut has_ended = false;
    match &batch.progress {
        PullProgress::Partial => mark.set()?,
        PullProgress::Next { url, keys, walk } => mark.advance(Some(url), keys, *walk)?,
        PullProgress::WalkAgain { keys, walk } => mark.advance(None, keys, *walk)?,
        PullProgress::End(completion) => {
            stored.sweep = sweep(&mut mark, completion, now, &mut stored.tally, &mut changes)?;
            has_ended = stored.sweep != SweepOutcome::WalkAgain;
            if has_ended {
                note = note_of(completion, stored.sweep);
                let stored_rows = !(batch.rows.is_empty() && batch.quarantined.is_empty());
                let (is_marked, watermark) = (mark.is_set, completion.watermark);
                let finished = Finished { is_marked, watermark, stored_rows, now };
                checkpoint::finish_pull(connection, head, &finished)?;
            }
        }
    }
    analyst_tables.apply_changes(connection, &head.person, &changes, now)?;
    if renamed {
        checkpoint::note_renamed(connection, &head.person)?;
    }
    let end = End { outcome: PullOutcome::Ok, error: note.as_deref(), at: now };
    stored.row = Some(pulls::note(connection, head, &cost, stored.tally, has_ended.then_some(&end))?);
    Ok(stored)
}

/// The mark in the checkpoint that a pull is under way. One that begins and ends in a single
/// batch goes without.
struct PullMark<'c> {
    connection: &'c Connection,
    head: &'c PullHead,
    is_set: bool,
}

impl PullMark<'_> {
    fn set(&mut self) -> Result<(), Undone> {
        if !self.is_set {
            checkpoint::begin_pull(self.connection, self.head)?;
            self.is_set = true;
        }
        Ok(())
    }

    /// Notes that a page is whole: its link is next, or (`None`) the walk begins again.
    fn advance(&mut self, next_url: Option<&str>, keys: &[KeyHash], walk: WalkMark) -> Result<(), Undone> {
        self.set()?;
        checkpoint::keep_seen(self.connection, &self.head.person, walk, keys)?;
        checkpoint::advance(self.connection, self.head, next_url, walk)
    }
}

/// Marks what a complete full pull no longer held, unless the walk is to be repeated first.
fn sweep(
    mark: &mut PullMark<'_>,
    completion: &Completion,
    now: Timestamp,
    tally: &mut Tally,
    changes: &mut Changes<'_>,
) -> Result<SweepOutcome, Undone> {
    let Some(request) = &completion.sweep else { return Ok(SweepOutcome::Done) };
    match sweep::run(mark.connection, mark.head, request, now, changes)? {
        sweep::Swept::Marked { deleted } => {
            tally.deleted = deleted;
            Ok(SweepOutcome::Done)
        }
        sweep::Swept::WalkAgain => {
            mark.advance(None, &completion.keys, completion.walk)?;
            Ok(SweepOutcome::WalkAgain)
        }
        sweep::Swept::Guarded { unseen } => Ok(SweepOutcome::Guarded(unseen)),
    }
}

/// Returns what is said beside the outcome `ok`.
fn note_of(completion: &Completion, sweep: SweepOutcome) -> Option<String> {
    let held = match sweep {
        SweepOutcome::Guarded(unseen) => {
            Some(format!("{unseen} resources were gone at once; nothing is marked as deleted for 24 hours"))
        }
        SweepOutcome::Done | SweepOutcome::WalkAgain => None,
    };
    let notes: Vec<String> = completion.note.iter().cloned().chain(held).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

struct Upserts<'c> {
    connection: &'c Connection,
    person: &'c str,
    now: String,
    changes: Changes<'c>,
}

/// What the rows of one table need, prepared once a batch.
struct TableStatements<'c> {
    known: CachedStatement<'c>,
    insert: CachedStatement<'c>,
    update: CachedStatement<'c>,
    expects_new: bool,
}

impl<'c> TableStatements<'c> {
    /// Makes the table too, where this is the first row of its type.
    fn prepare(connection: &'c Connection, table: &str) -> Result<Self, StoreFailed> {
        // By the schema in memory, which is this connection's own: nobody else makes tables.
        if !connection.table_exists(None::<&str>, table)? {
            tables::ensure(connection, table)?;
        }
        let prepare = |statement| connection.prepare_cached(&tables::fill_in(statement, table));
        Ok(Self {
            known: prepare(KNOWN)?,
            insert: prepare(include_str!("../../../schema/insert.sql"))?,
            update: prepare(include_str!("../../../schema/update.sql"))?,
            expects_new: false,
        })
    }
}

const KNOWN: &str =
    "SELECT content_hash, deleted_at IS NOT NULL FROM \"{table}\" WHERE person_id = ?1 AND key = ?2";

/// What is stored under a key.
pub(super) struct StoredVersion {
    pub(super) content_hash: [u8; 16],
    pub(super) is_deleted: bool,
}

pub(super) fn lookup(
    connection: &Connection,
    table: &str,
    person: &str,
    key: &str,
) -> Result<Option<StoredVersion>, StoreFailed> {
    read_stored(&mut connection.prepare_cached(&tables::fill_in(KNOWN, table))?, person, key)
}

fn read_stored(
    statement: &mut CachedStatement<'_>,
    person: &str,
    key: &str,
) -> Result<Option<StoredVersion>, StoreFailed> {
    let known = statement
        .query_row([person, key], |row| {
            Ok(StoredVersion { content_hash: row.get(0)?, is_deleted: row.get(1)? })
        })
        .optional()?;
    Ok(known)
}

impl<'c> Upserts<'c> {
    fn rows(
        &mut self,
        rows: &'c [IncomingRow],
        gained: &'c [Option<KeptRows>],
    ) -> Result<Tally, StoreFailed> {
        let mut tally = Tally::default();
        let clears_quarantine = !rows.is_empty() && self.has_quarantined()?;
        let mut tables: HashMap<&'static str, TableStatements<'_>> = HashMap::new();
        let gained = gained.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        for (IncomingRow { row, is_repeat }, gained) in rows.iter().zip(gained) {
            let statements = match tables.entry(row.table) {
                Entry::Occupied(prepared) => prepared.into_mut(),
                Entry::Vacant(missing) => {
                    missing.insert(TableStatements::prepare(self.connection, row.table)?)
                }
            };
            if clears_quarantine {
                self.connection
                    .prepare_cached("DELETE FROM quarantine WHERE person_id = ?1 AND key = ?2")?
                    .execute([self.person, &row.key])?;
            }
            self.row(Change { row, gained }, *is_repeat, statements, &mut tally)?;
        }
        Ok(tally)
    }

    fn row(
        &mut self,
        change: Change<'c>,
        is_repeat: bool,
        statements: &mut TableStatements<'_>,
        tally: &mut Tally,
    ) -> Result<(), StoreFailed> {
        let row = change.row;
        // What comes after a new row mostly is new, what comes after a known one known.
        if statements.expects_new && self.insert(&mut statements.insert, change, tally)? {
            return Ok(());
        }
        let known = read_stored(&mut statements.known, self.person, &row.key)?;
        statements.expects_new = known.is_none();
        match known {
            None => {
                self.insert(&mut statements.insert, change, tally)?;
            }
            Some(known) if known.content_hash == row.content_hash && !known.is_deleted => {
                tally.unchanged += 1;
            }
            Some(_) if is_repeat && self.is_superseded(row)? => tally.unchanged += 1,
            Some(known) => {
                self.write(&mut statements.update, row)?;
                tally.updated += 1;
                self.changes.updated(change, known.is_deleted);
            }
        }
        Ok(())
    }

    /// False if the key is known.
    fn insert(
        &mut self,
        statement: &mut CachedStatement<'_>,
        change: Change<'c>,
        tally: &mut Tally,
    ) -> Result<bool, StoreFailed> {
        if self.write(statement, change.row)? == 0 {
            return Ok(false);
        }
        tally.inserted += 1;
        self.changes.inserted(change);
        Ok(true)
    }

    fn write(&self, statement: &mut CachedStatement<'_>, row: &Row) -> Result<usize, StoreFailed> {
        Ok(statement.execute(params![
            self.person,
            row.key,
            row.id,
            row.version_id,
            row.last_updated,
            row.source,
            row.patient,
            self.now,
            row.content_hash,
            row.resource,
        ])?)
    }

    /// Met again in one walk: what is stored may be the later version.
    fn is_superseded(&self, row: &Row) -> Result<bool, StoreFailed> {
        let statement =
            format!("SELECT last_updated FROM \"{}\" WHERE person_id = ?1 AND key = ?2", row.table);
        let stored: Option<String> = self
            .connection
            .prepare_cached(&statement)?
            .query_row([self.person, &row.key], |found| found.get(0))?;
        Ok(!replaces(row.last_updated.as_deref(), stored.as_deref()))
    }

    fn has_quarantined(&self) -> Result<bool, StoreFailed> {
        let statement = "SELECT 1 FROM quarantine WHERE person_id = ?1 LIMIT 1";
        Ok(self.connection.prepare_cached(statement)?.exists([self.person])?)
    }

    fn quarantine(&self, entries: &[Quarantined]) -> Result<u64, StoreFailed> {
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO quarantine (person_id, key, reason, received_at, entry) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (person_id, key) DO UPDATE
                SET reason = excluded.reason, received_at = excluded.received_at, entry = excluded.entry
              WHERE reason <> excluded.reason OR entry <> excluded.entry",
        )?;
        for entry in entries {
            statement.execute(params![self.person, entry.key, entry.reason, self.now, entry.entry])?;
        }
        Ok(entries.len() as u64)
    }

    fn met_a_renamed_entry(&self) -> Result<bool, StoreFailed> {
        for (table, Changed { new, .. }) in self.changes.by_table() {
            let new: Vec<&Row> = new.iter().map(|change| change.row).collect();
            if renames(self.connection, self.person, table, &new)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Returns whether new rows of a table have the id of one that was stored under another key.
///
/// Twins that arrive together are two things; only a new key beside one that was stored before
/// can be a renamed entry.
pub(super) fn renames(
    connection: &Connection,
    person: &str,
    table: &str,
    new: &[&Row],
) -> Result<bool, StoreFailed> {
    let ids: HashSet<&str> = new.iter().filter_map(|row| row.id.as_deref()).collect();
    if ids.is_empty() {
        return Ok(false);
    }
    let keys: HashSet<&str> = new.iter().map(|row| row.key.as_str()).collect();
    let statement = format!(
        "SELECT id, key FROM \"{table}\" WHERE person_id = ?1 AND deleted_at IS NULL AND id IS NOT NULL"
    );
    let mut statement = connection.prepare_cached(&statement)?;
    let mut live = statement.query([person])?;
    while let Some(found) = live.next()? {
        let id = found.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let key = found.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        if ids.contains(id) && !keys.contains(key) {
            return Ok(true);
        }
    }
    Ok(false)
}
