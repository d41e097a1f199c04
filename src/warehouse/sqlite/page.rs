//! What is true of one patient's rows after a page, a crash or a restart.
//!
//! Promise: rows, the marks of what was seen and the progress of the pull change in one
//! transaction, so the checkpoint never points past data we have, and a page that is sent
//! again changes nothing. Absent on purpose: any DELETE of a purge.

use std::cell::OnceCell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::analyst_tables::AnalystTables;
use super::failure::Undone;
use super::pulls::End;
use super::{checkpoint, history, pulls, shortfall, sweep, tables};
use crate::plan::duplicate::replaces;
use crate::plan::identity::{Holder, KEY_BYTES_MAX, KeyForm, choose_key};
use crate::plan::row::{KeyHash, NAME_TOO_LONG, Quarantined, Row};
use crate::plan::{PersonId, PullMode, Timestamp, stamp};
use crate::views::KeptRows;
use crate::warehouse::changes::{Change, Changed, Changes, History};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::{
    Batch, Completion, Finished, IncomingRow, PullProgress, StoredBatch, SweepOutcome, Tally, WalkMark,
};
use crate::warehouse::pull::{PullCost, PullHead, PullOutcome};

/// A batch, and what its rows give their views as far as that was worked out before: nothing, or
/// one for each row.
pub(super) struct EvaluatedBatch {
    pub(super) batch: Batch,
    pub(super) gained: Vec<Option<KeptRows>>,
    pub(super) history: History,
}

/// Stores a batch and the fact that it is stored, or neither. Runs inside a transaction.
pub(super) fn store(
    connection: &Connection,
    analyst_tables: &AnalystTables,
    head: &PullHead,
    cost: PullCost,
    EvaluatedBatch { batch, gained, history }: &EvaluatedBatch,
    now: Timestamp,
) -> Result<StoredBatch, Undone> {
    let mut mark = PullMark { connection, head, is_set: cost.row.is_some() || head.is_resumed };
    let respelled = OnceCell::new();
    let mut upserts = Upserts::new(connection, &head.person, *history, now)?;
    let mut tally = upserts.rows(&batch.rows, gained)?;
    // Things whose name is another's, under the keys that they have instead.
    let respelled = respelled.get_or_init(|| std::mem::take(&mut upserts.respelled));
    tally += upserts.rows(respelled, &[])?;
    tally.quarantined = upserts.quarantine(&batch.quarantined)?;
    let renamed = head.mode == PullMode::Incremental && upserts.met_a_renamed_entry()?;
    let mut changes = upserts.changes;
    let mut stored = StoredBatch { tally, renamed, ..StoredBatch::default() };
    let mut note = None;
    let mut has_ended = false;
    match &batch.progress {
        PullProgress::Partial if mark.is_set => checkpoint::expect_under_way(connection, head)?,
        PullProgress::Partial => mark.set()?,
        PullProgress::Next { url, keys, walk } => mark.advance(Some(url), keys, *walk)?,
        PullProgress::WalkAgain { keys, walk } => mark.advance(None, keys, *walk)?,
        PullProgress::End(completion) => {
            stored.sweep = sweep(&mut mark, completion, now, &mut stored.tally, &mut changes)?;
            has_ended = stored.sweep != SweepOutcome::WalkAgain;
            if has_ended {
                note = completion.note_beside(stored.sweep);
                let stored_rows = !(batch.rows.is_empty() && batch.quarantined.is_empty());
                let finished = Finished {
                    is_marked: mark.is_set,
                    watermark: completion.watermark,
                    stored_rows,
                    swept: completion.sweep.is_some() && stored.sweep == SweepOutcome::Done,
                    shortfall: completion.shortfall,
                    now,
                };
                let has_news = pulls::has_changed(connection, &cost)?
                    || stored.tally.inserted + stored.tally.updated > 0;
                stored.since_ignored =
                    shortfall::note_brought(connection, head, completion.brought, has_news)?;
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
    match sweep::run(mark.connection, mark.head, request, tally.quarantined, now, changes)? {
        sweep::Swept::Marked { deleted } => {
            tally.deleted = deleted;
            Ok(SweepOutcome::Done)
        }
        sweep::Swept::WalkAgain => {
            let all = || request.seen.last().map(|seen| seen.iter().copied().collect());
            let keys = completion.keys.clone().or_else(all).unwrap_or_default();
            mark.advance(None, &keys, completion.walk)?;
            Ok(SweepOutcome::WalkAgain)
        }
        sweep::Swept::Guarded { unseen } => Ok(SweepOutcome::Guarded(unseen)),
    }
}

struct Upserts<'c> {
    connection: &'c Connection,
    person: &'c str,
    now: String,
    /// Whether a thing of this patient may be stored with its id behind its name.
    shares_names: bool,
    /// Rows that wait to be stored under another key than their name.
    respelled: Vec<IncomingRow>,
    /// Rows that have no key to be stored under.
    homeless: Vec<Quarantined>,
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

const KNOWN: &str = "SELECT content_hash, deleted_at IS NOT NULL, superseded_at IS NOT NULL, id
   FROM \"{table}\" WHERE person_id = ?1 AND key = ?2";

/// What is stored under a key.
pub(super) struct StoredVersion {
    pub(super) content_hash: [u8; 16],
    pub(super) is_deleted: bool,
    pub(super) is_superseded: bool,
    pub(super) id: Option<String>,
}

impl StoredVersion {
    /// Returns whether the row is this one, and to be seen.
    pub(super) fn is_current(&self, row: &Row) -> bool {
        self.content_hash == row.content_hash && !self.is_deleted && !self.is_superseded
    }
}

/// Returns who holds a key, as seen from a thing that might be stored under it.
pub(super) fn holder(stored: Option<&StoredVersion>, row: &Row) -> Holder {
    Holder::of(stored.map(|stored| stored.id.as_deref()), row.id.as_deref())
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
            Ok(StoredVersion {
                content_hash: row.get(0)?,
                is_deleted: row.get(1)?,
                is_superseded: row.get(2)?,
                id: row.get(3)?,
            })
        })
        .optional()?;
    Ok(known)
}

impl<'c> Upserts<'c> {
    fn new(
        connection: &'c Connection,
        person: &'c PersonId,
        history: History,
        now: Timestamp,
    ) -> Result<Self, StoreFailed> {
        let person = person.as_str();
        Ok(Self {
            connection,
            person,
            now: stamp(now),
            shares_names: checkpoint::shares_names(connection, person)?,
            respelled: Vec::new(),
            homeless: Vec::new(),
            changes: Changes::keeping(history),
        })
    }

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
                    .prepare_cached("DELETE FROM quarantine WHERE person_id = ?1 AND identity = ?2")?
                    .execute(params![self.person, row.identity().hash().cast_signed()])?;
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
        let expects_new = statements.expects_new && !self.shares_names;
        if expects_new && self.insert(&mut statements.insert, change, tally)? {
            return Ok(());
        }
        let known = read_stored(&mut statements.known, self.person, &row.key)?;
        statements.expects_new = known.is_none();
        if !self.may_have_its_name(row, is_repeat, known.as_ref(), statements)? {
            return Ok(());
        }
        match known {
            None => {
                self.insert(&mut statements.insert, change, tally)?;
            }
            Some(known) if known.is_current(row) => tally.unchanged += 1,
            Some(_) if is_repeat && self.is_superseded(row)? => tally.unchanged += 1,
            Some(known) => {
                if known.content_hash != row.content_hash {
                    history::keep(
                        self.changes.history,
                        self.connection,
                        row.table,
                        self.person,
                        &row.key,
                        &self.now,
                    )?;
                }
                self.write(&mut statements.update, row)?;
                tally.updated += 1;
                self.changes.updated(change, known.is_deleted);
            }
        }
        Ok(())
    }

    /// Returns whether a row is stored under its name; else it waits for another key, or has none.
    fn may_have_its_name(
        &mut self,
        row: &Row,
        is_repeat: bool,
        known: Option<&StoredVersion>,
        statements: &mut TableStatements<'_>,
    ) -> Result<bool, StoreFailed> {
        let at_name = holder(known, row);
        if at_name == Holder::Itself || at_name == Holder::Nothing && !self.shares_names {
            return Ok(true);
        }
        let key = row.identity().key_with_id();
        let at_name_and_id = read_stored(&mut statements.known, self.person, &key)?;
        match choose_key(at_name, holder(at_name_and_id.as_ref(), row)) {
            KeyForm::Name => return Ok(true),
            KeyForm::NameAndId if key.len() <= KEY_BYTES_MAX => {
                self.note_shared_name()?;
                self.respelled.push(IncomingRow { row: Row { key, ..row.clone() }, is_repeat });
            }
            KeyForm::NameAndId => self.homeless.push(row.quarantined(NAME_TOO_LONG)),
            KeyForm::Neither => self.homeless.push(row.quarantined("its key is another resource's")),
        }
        Ok(false)
    }

    fn note_shared_name(&mut self) -> Result<(), StoreFailed> {
        if !std::mem::replace(&mut self.shares_names, true) {
            self.connection
                .prepare_cached("UPDATE checkpoint SET shares_names = 1 WHERE person_id = ?1")?
                .execute([self.person])?;
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

    /// Puts entries into quarantine. What they are new versions of is no longer what the server has.
    fn quarantine(&mut self, entries: &[Quarantined]) -> Result<u64, StoreFailed> {
        let homeless = std::mem::take(&mut self.homeless);
        for entry in entries.iter().chain(&homeless) {
            let key = self.quarantine_key(entry)?;
            let identity = entry.identity().hash().cast_signed();
            self.connection
                .prepare_cached(include_str!("../../../schema/quarantine.sql"))?
                .execute(params![self.person, key, entry.reason, self.now, entry.entry, identity])?;
            if entry.is_named {
                self.supersede(entry)?;
            }
        }
        Ok((entries.len() + homeless.len()) as u64)
    }

    /// Returns the name of an entry, unless another one is in quarantine under it.
    fn quarantine_key(&self, entry: &Quarantined) -> Result<String, StoreFailed> {
        let statement = "SELECT 1 FROM quarantine WHERE person_id = ?1 AND key = ?2 AND identity <> ?3";
        let identity = entry.identity().hash().cast_signed();
        let is_taken =
            self.connection.prepare_cached(statement)?.exists(params![self.person, entry.key, identity])?;
        Ok(if is_taken { entry.identity().key_with_id() } else { entry.key.clone() })
    }

    /// Marks the stored version of an entry whose new one cannot be stored.
    fn supersede(&mut self, entry: &Quarantined) -> Result<(), StoreFailed> {
        let tables = match entry.table {
            Some(table) => vec![table],
            None => {
                tables::resource_tables(self.connection)?.iter().map(|known| known.table.as_str()).collect()
            }
        };
        for table in tables {
            if !tables::exists(self.connection, table)? {
                continue;
            }
            let statement = tables::fill_in(include_str!("../../../schema/supersede.sql"), table);
            let mut statement = self.connection.prepare_cached(&statement)?;
            let keys = statement.query_map(
                params![self.person, entry.key, entry.identity().key_with_id(), entry.id, self.now],
                |row| row.get(0),
            )?;
            for key in keys.collect::<Result<Vec<String>, _>>()? {
                self.changes.hidden(table, key);
            }
        }
        Ok(())
    }

    /// Returns whether an entry seems to have been renamed. Until a full pull has told, the older of
    /// two that read the same is superseded.
    fn met_a_renamed_entry(&mut self) -> Result<bool, StoreFailed> {
        let mut met = false;
        let mut doubles = Vec::new();
        for (table, Changed { new, .. }) in &self.changes.by_table {
            let new: Vec<&Row> = new.iter().map(|change| change.row).collect();
            if let Some(keys) = renamed(self.connection, self.person, table, &new)? {
                met = true;
                doubles.extend(keys.into_iter().map(|key| (*table, key)));
            }
        }
        for (table, key) in doubles {
            let statement = format!(
                "UPDATE \"{table}\" SET superseded_at = ?3
                  WHERE person_id = ?1 AND key = ?2 AND superseded_at IS NULL"
            );
            let values = params![self.person, key, self.now];
            if self.connection.prepare_cached(&statement)?.execute(values)? > 0 {
                self.changes.hidden(table, key);
            }
        }
        Ok(met)
    }
}

/// Looks for rows with the id of a new one under another key, as a renamed entry leaves them. Twins
/// that arrive together are two things. Returns the keys of those that read the same as the new
/// row, or `None` where there is no such row at all.
pub(super) fn renamed(
    connection: &Connection,
    person: &str,
    table: &str,
    new: &[&Row],
) -> Result<Option<Vec<String>>, StoreFailed> {
    let by_id: HashMap<&str, &Row> = new.iter().filter_map(|row| Some((row.id.as_deref()?, *row))).collect();
    if by_id.is_empty() {
        return Ok(None);
    }
    let keys: HashSet<&str> = new.iter().map(|row| row.key.as_str()).collect();
    let statement = format!(
        "SELECT id, key, content_hash FROM \"{table}\"
          WHERE person_id = ?1 AND deleted_at IS NULL AND id IS NOT NULL"
    );
    let mut statement = connection.prepare_cached(&statement)?;
    let mut live = statement.query([person])?;
    let mut doubles = None;
    while let Some(found) = live.next()? {
        let id = found.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let key = found.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let Some(row) = by_id.get(id).filter(|_| !keys.contains(key)) else { continue };
        let doubles = doubles.get_or_insert_with(Vec::new);
        if found.get::<_, [u8; 16]>(2)? == row.content_hash {
            doubles.push(key.to_owned());
        }
    }
    Ok(doubles)
}
