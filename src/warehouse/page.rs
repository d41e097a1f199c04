//! What is true of one patient's rows after a page, a crash or a restart.
//!
//! Promise: rows, the marks of what was seen and the progress of the pull change in one
//! transaction, so the checkpoint never points past data we have, and a page that is sent
//! again changes nothing. Absent on purpose: any DELETE of a purge.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::analyst_tables::{AnalystTables, Changed, Changes};
use super::failure::StoreFailed;
use super::pulls::{PullOrigin, PullOutcome, PullRow};
use super::sweep::SweepRequest;
use super::{checkpoint, pulls, sweep, tables};
use crate::plan::completeness::Walk;
use crate::plan::row::{KeyHash, Quarantined, Row};
use crate::plan::{PersonId, PullMode, Timestamp, TypeFilter, stamp};

/// What stays the same for all pages of one pull.
#[derive(Clone, Debug)]
pub struct PullFrame {
    pub person: PersonId,
    pub mode: PullMode,
    pub types: TypeFilter,
    pub started_at: Timestamp,
    pub since: Option<Timestamp>,
    /// Goes on where an earlier process or attempt was interrupted.
    pub is_resumed: bool,
}

impl PullFrame {
    fn origin(&self) -> PullOrigin {
        let PullFrame { person, mode, since, started_at, .. } = self;
        PullOrigin { person: person.clone(), mode: *mode, since: *since, started_at: *started_at }
    }
}

/// A row and whether this walk has already met its key.
#[derive(Debug)]
pub struct PlacedRow {
    pub row: Row,
    pub is_repeat: bool,
}

/// Some or all entries of a page, and what storing them means for the pull.
#[derive(Debug)]
pub struct Batch {
    /// No two of one table and key.
    pub rows: Vec<PlacedRow>,
    pub quarantined: Vec<Quarantined>,
    pub progress: Progress,
}

#[derive(Debug)]
pub enum Progress {
    /// More of the same page follows.
    Partial,
    /// The page is whole and this link is next. `keys` are the page's, `walk` includes it.
    Next { url: String, keys: Vec<KeyHash>, walk: WalkMark },
    /// The walk is over and is to be run again.
    WalkAgain { keys: Vec<KeyHash>, walk: WalkMark },
    /// The pull is over, unless the sweep asks for another walk.
    End(PullEnd),
}

#[derive(Debug)]
pub struct PullEnd {
    pub watermark: Timestamp,
    /// Said in `pull.error` beside the outcome `ok`.
    pub note: Option<String>,
    /// Present for a full pull that may mark what it did not see.
    pub sweep: Option<SweepRequest>,
    pub keys: Vec<KeyHash>,
    pub walk: WalkMark,
}

/// The counts of one walk, as kept across a restart.
#[derive(Clone, Copy, Debug)]
pub struct WalkMark {
    pub number: u32,
    pub pages: u64,
    pub received: u64,
    pub total: Option<u64>,
    pub total_changed: bool,
}

impl WalkMark {
    pub fn of(walk: &Walk, number: u32) -> Self {
        let (pages, received, total, total_changed) =
            (walk.pages, walk.received, walk.total, walk.total_changed);
        Self { number, pages, received, total, total_changed }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub inserted: u64,
    pub updated: u64,
    pub unchanged: u64,
    pub deleted: u64,
    pub quarantined: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.inserted += more.inserted;
        self.updated += more.updated;
        self.unchanged += more.unchanged;
        self.deleted += more.deleted;
        self.quarantined += more.quarantined;
    }
}

#[derive(Debug)]
pub struct Stored {
    pub pull_id: i64,
    pub tally: Tally,
    /// An incremental pull met a new key for a type and id that is live under another one.
    pub renamed: bool,
    /// Only after `Progress::End`: whether the sweep wants the walk repeated first.
    pub walk_again: bool,
    /// A sweep was held back: this many rows looked vanished.
    pub guarded: Option<u64>,
}

/// Stores a batch and the fact that it is stored, or neither. Runs inside a transaction.
pub fn store(
    connection: &Connection,
    analyst_tables: &AnalystTables,
    frame: &PullFrame,
    pull: PullRow,
    batch: &Batch,
    now: Timestamp,
) -> Result<Stored, StoreFailed> {
    let mut under_way = UnderWay { connection, frame, is_marked: pull.id.is_some() || frame.is_resumed };
    let mut upserts =
        Upserts { connection, person: frame.person.as_str(), now: stamp(now), changes: Changes::default() };
    let mut tally = upserts.rows(&batch.rows)?;
    tally.quarantined = upserts.quarantine(&batch.quarantined)?;
    let renamed = frame.mode == PullMode::Incremental && upserts.met_a_renamed_entry()?;
    let mut changes = upserts.changes;
    let mut stored = Stored { pull_id: 0, tally, renamed, walk_again: false, guarded: None };
    let is_last = matches!(batch.progress, Progress::End(_));
    let mut note = None;
    match &batch.progress {
        Progress::Partial => under_way.mark()?,
        Progress::Next { url, keys, walk } => under_way.advance(Some(url), keys, *walk)?,
        Progress::WalkAgain { keys, walk } => under_way.advance(None, keys, *walk)?,
        Progress::End(end) => note = finish(&mut under_way, end, now, &mut stored, &mut changes)?,
    }
    analyst_tables.follow(connection, &frame.person, &changes)?;
    if renamed {
        checkpoint::note_renamed(connection, &frame.person)?;
    }
    let has_ended = is_last && !stored.walk_again;
    let ended = has_ended.then_some((PullOutcome::Ok, note.as_deref(), now));
    stored.pull_id = pulls::note(connection, &frame.origin(), &pull, stored.tally, ended)?;
    Ok(stored)
}

/// The mark in the checkpoint that a pull is under way. One that begins and ends in a single
/// batch goes without.
struct UnderWay<'c> {
    connection: &'c Connection,
    frame: &'c PullFrame,
    is_marked: bool,
}

impl UnderWay<'_> {
    fn mark(&mut self) -> Result<(), StoreFailed> {
        if !self.is_marked {
            checkpoint::begin_pull(self.connection, self.frame)?;
            self.is_marked = true;
        }
        Ok(())
    }

    /// A page is whole: its link is next, or (`None`) the walk begins again.
    fn advance(
        &mut self,
        next_url: Option<&str>,
        keys: &[KeyHash],
        walk: WalkMark,
    ) -> Result<(), StoreFailed> {
        self.mark()?;
        checkpoint::keep_seen(self.connection, &self.frame.person, walk, keys)?;
        checkpoint::advance(self.connection, self.frame, next_url, walk)
    }
}

/// Ends the pull, unless the sweep asks for another walk. Gives what is to be said beside `ok`.
fn finish(
    under_way: &mut UnderWay<'_>,
    end: &PullEnd,
    now: Timestamp,
    stored: &mut Stored,
    changes: &mut Changes<'_>,
) -> Result<Option<String>, StoreFailed> {
    let UnderWay { connection, frame, is_marked } = *under_way;
    let mut note = end.note.clone();
    if let Some(request) = &end.sweep {
        match sweep::run(connection, frame, request, now, changes)? {
            sweep::Swept::Marked { deleted } => stored.tally.deleted = deleted,
            sweep::Swept::WalkAgain => {
                stored.walk_again = true;
                under_way.advance(None, &end.keys, end.walk)?;
                return Ok(None);
            }
            sweep::Swept::Guarded { unseen } => {
                stored.guarded = Some(unseen);
                let held = format!(
                    "{unseen} resources were gone at once; nothing is marked as deleted for 24 hours"
                );
                note = Some(note.map_or_else(|| held.clone(), |note| format!("{note}; {held}")));
            }
        }
    }
    checkpoint::finish_pull(connection, frame, is_marked, end.watermark, now)?;
    Ok(note)
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
            insert: prepare(include_str!("../../schema/insert.sql"))?,
            update: prepare(include_str!("../../schema/update.sql"))?,
            expects_new: false,
        })
    }
}

const KNOWN: &str =
    "SELECT content_hash, deleted_at IS NOT NULL FROM \"{table}\" WHERE person_id = ?1 AND key = ?2";

/// What is stored under a key.
pub struct Known {
    pub content_hash: [u8; 16],
    pub is_deleted: bool,
}

pub fn lookup(
    connection: &Connection,
    table: &str,
    person: &str,
    key: &str,
) -> Result<Option<Known>, StoreFailed> {
    read_known(&mut connection.prepare_cached(&tables::fill_in(KNOWN, table))?, person, key)
}

fn read_known(
    statement: &mut CachedStatement<'_>,
    person: &str,
    key: &str,
) -> Result<Option<Known>, StoreFailed> {
    let known = statement
        .query_row([person, key], |row| Ok(Known { content_hash: row.get(0)?, is_deleted: row.get(1)? }))
        .optional()?;
    Ok(known)
}

impl<'c> Upserts<'c> {
    fn rows(&mut self, rows: &'c [PlacedRow]) -> Result<Tally, StoreFailed> {
        let mut tally = Tally::default();
        let clears_quarantine = !rows.is_empty() && self.has_quarantined()?;
        let mut tables: HashMap<&'static str, TableStatements<'_>> = HashMap::new();
        for PlacedRow { row, is_repeat } in rows {
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
            self.row(row, *is_repeat, statements, &mut tally)?;
        }
        Ok(tally)
    }

    fn row(
        &mut self,
        row: &'c Row,
        is_repeat: bool,
        statements: &mut TableStatements<'_>,
        tally: &mut Tally,
    ) -> Result<(), StoreFailed> {
        // What comes after a new row mostly is new, what comes after a known one known.
        if statements.expects_new && self.insert(&mut statements.insert, row, tally)? {
            return Ok(());
        }
        let known = read_known(&mut statements.known, self.person, &row.key)?;
        statements.expects_new = known.is_none();
        match known {
            None => {
                self.insert(&mut statements.insert, row, tally)?;
            }
            Some(known) if known.content_hash == row.content_hash && !known.is_deleted => {
                tally.unchanged += 1;
            }
            Some(_) if is_repeat && self.is_superseded(row)? => tally.unchanged += 1,
            Some(known) => {
                self.write(&mut statements.update, row)?;
                tally.updated += 1;
                self.changes.updated(row, known.is_deleted);
            }
        }
        Ok(())
    }

    /// False if the key is known.
    fn insert(
        &mut self,
        statement: &mut CachedStatement<'_>,
        row: &'c Row,
        tally: &mut Tally,
    ) -> Result<bool, StoreFailed> {
        if self.write(statement, row)? == 0 {
            return Ok(false);
        }
        tally.inserted += 1;
        self.changes.inserted(row);
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
        Ok(row.is_older_than(stored.as_deref()))
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

    /// Twins that arrive together are two things; only a new key beside one that was stored
    /// before can be a renamed entry.
    fn met_a_renamed_entry(&self) -> Result<bool, StoreFailed> {
        for (table, Changed { new, .. }) in self.changes.by_table() {
            let ids: HashSet<&str> = new.iter().filter_map(|row| row.id.as_deref()).collect();
            if ids.is_empty() {
                continue;
            }
            let keys: HashSet<&str> = new.iter().map(|row| row.key.as_str()).collect();
            let statement = format!(
                "SELECT id, key FROM \"{table}\" WHERE person_id = ?1 AND deleted_at IS NULL AND id IS NOT NULL"
            );
            let mut statement = self.connection.prepare_cached(&statement)?;
            let mut live = statement.query([self.person])?;
            while let Some(found) = live.next()? {
                let id = found.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
                let key = found.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
                if ids.contains(id) && !keys.contains(key) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
