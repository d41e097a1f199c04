//! The ledger of purges at work: held against the warehouse when that is opened, and written before
//! a purge is committed.
//!
//! Promise: a purge that the ledger knows and the file does not, as after a restore or a crash, is
//! carried out before anything else is done with the file. Nobody is purged without a line, so
//! a ledger that is damaged, lost or not writable is a fault that stays until it is mended.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::files::with_suffix;
use super::ledger::{Entry, EntryKind, LedgerText, LineHash, PurgeEntry, Tail};
use super::purge::Purge;
use super::{appended, ledger, purge};
use crate::machine;
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp, parse_stamp, stamp};
use crate::warehouse::failure::{LedgerFault, OpenFailed, StoreFailed};
use crate::warehouse::place::{Place, folder_of};
use crate::warehouse::purge::{CarriedOut, Erased, LedgerReport};

const WAREHOUSE_ID: &str = "warehouse_id";
/// The hash of the line that this warehouse wrote or read last.
const LEDGER_HEAD: &str = "ledger_head";

/// A warehouse's ledger, open for writing.
pub(super) struct LedgerBook {
    path: PathBuf,
    last: LineHash,
    length: u64,
    purged: PurgedPatients,
    fault: Option<LedgerFault>,
    /// A line may be there whose purge was not committed.
    is_ahead: bool,
    /// What was carried out and not asked for yet.
    carried_out: Vec<CarriedOut>,
}

/// Those whose last line in the ledger is a purge. Looked at by others for moments.
#[derive(Clone, Debug, Default)]
pub(super) struct PurgedPatients(Arc<Mutex<HashSet<PersonId>>>);

impl PurgedPatients {
    pub(super) fn contains(&self, person: &PersonId) -> bool {
        self.set().contains(person)
    }

    fn set(&self) -> MutexGuard<'_, HashSet<PersonId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns where a warehouse's ledger is. The folders on the way to it may be links, the ledger
/// may not.
pub(super) fn resolve(warehouse: &Path, ledger: Option<&Path>) -> PathBuf {
    ledger.map_or_else(|| beside(warehouse, ".purges"), in_real_folder)
}

/// Returns the path of a file beside the warehouse itself, and not beside a link to it.
pub(super) fn beside(warehouse: &Path, suffix: &str) -> PathBuf {
    let real = std::fs::canonicalize(warehouse).unwrap_or_else(|_| in_real_folder(warehouse));
    with_suffix(&real, suffix)
}

fn in_real_folder(path: &Path) -> PathBuf {
    match (std::fs::canonicalize(folder_of(path)), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Refuses to make a warehouse where there is a ledger already: that of one which was lost.
pub(super) fn expect_none(place: &Place) -> Result<(), OpenFailed> {
    let ledger = resolve(place.path(), place.ledger.as_deref());
    if std::fs::symlink_metadata(&ledger).is_err() {
        return Ok(());
    }
    Err(OpenFailed::LedgerWithoutWarehouse { path: place.path().to_owned(), ledger })
}

/// Gives a new warehouse the id by which its ledger names it.
pub(super) fn note_new_id(connection: &Connection) -> Result<(), StoreFailed> {
    note(connection, WAREHOUSE_ID, &new_id())
}

fn new_id() -> String {
    format!("{:032x}", machine::unique())
}

/// Compares ledger and warehouse, which is this account's or not. Changes neither.
pub(super) fn report(path: &Path, connection: &Connection, owned: bool) -> Result<LedgerReport, StoreFailed> {
    let looked = Looked::at(path, connection)?;
    // Who may read the warehouse by its group may not read the ledger, and cannot judge it.
    let is_forbidden =
        looked.text.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    if is_forbidden && !owned {
        return Ok(LedgerReport::default());
    }
    let mut report = LedgerReport { fault: looked.fault(connection)?, ..LedgerReport::default() };
    if let Ok(Some(text)) = &looked.text
        && !matches!(report.fault, Some(LedgerFault::OfAnother(_)))
    {
        report.purges = text.entries.iter().filter(|entry| entry.kind != EntryKind::Returned).count() as u64;
        report.unknown = unknown(connection, &text.entries)?.len() as u64;
        if report.fault.is_none() {
            report.fault = appended::try_append(path).err().map(|error| unusable(path, &error));
        }
    }
    Ok(report)
}

fn unusable(path: &Path, error: &std::io::Error) -> LedgerFault {
    LedgerFault::Unusable { path: path.to_owned(), why: error.to_string() }
}

/// A ledger as it was found, and what the warehouse remembers of it.
struct Looked {
    path: PathBuf,
    id: Option<String>,
    head: Option<LineHash>,
    text: Result<Option<LedgerText>, std::io::Error>,
    length: u64,
}

impl Looked {
    fn at(path: &Path, connection: &Connection) -> Result<Self, StoreFailed> {
        let bytes = appended::read(path);
        let length = bytes.as_ref().map_or(0, |bytes| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64));
        Ok(Self {
            path: path.to_owned(),
            id: noted(connection, WAREHOUSE_ID)?,
            head: noted(connection, LEDGER_HEAD)?,
            text: bytes.map(|bytes| bytes.map(|bytes| ledger::read(&bytes))),
            length,
        })
    }

    fn fault(&self, connection: &Connection) -> Result<Option<LedgerFault>, StoreFailed> {
        let path = self.path.clone();
        let text = match &self.text {
            Err(error) => return Ok(Some(unusable(&path, error))),
            Ok(None) => {
                let is_missing = self.id.is_some() && has_purges(connection)?;
                return Ok(is_missing.then_some(LedgerFault::Missing(path)));
            }
            Ok(Some(text)) => text,
        };
        if self.is_of_another(text, connection)? {
            return Ok(Some(LedgerFault::OfAnother(path)));
        }
        if let Some(fault) = &text.fault {
            return Ok(Some(LedgerFault::Damaged { path, line: fault.line, what: fault.what }));
        }
        let is_cut_off = self.head.as_ref().is_some_and(|head| !text.hashes.contains(head));
        Ok(is_cut_off.then_some(LedgerFault::CutOff(path)))
    }

    /// Returns whether the ledger is another warehouse's. One without an id, older than ledgers,
    /// can only be held against it by its purges.
    fn is_of_another(&self, text: &LedgerText, connection: &Connection) -> Result<bool, StoreFailed> {
        match (&self.id, &text.warehouse) {
            (Some(id), Some(warehouse)) => Ok(id != warehouse),
            (_, None) => Ok(false),
            (None, Some(_)) => {
                let mut known = known_purges(connection)?;
                for entry in &text.entries {
                    known.remove(&key_of(entry));
                }
                Ok(!known.is_empty())
            }
        }
    }
}

impl LedgerBook {
    /// Reads the ledger, makes it where there is none, and carries out what the warehouse does not
    /// know of it. The fault of a ledger is no failure of this.
    pub(super) fn open(
        path: PathBuf,
        connection: &mut Connection,
        now: Timestamp,
    ) -> Result<Self, StoreFailed> {
        let mut book = Self::unread(path);
        book.read(connection, now)?;
        Ok(book)
    }

    fn unread(path: PathBuf) -> Self {
        Self {
            path,
            last: LineHash::new(),
            length: 0,
            purged: PurgedPatients::default(),
            fault: None,
            is_ahead: false,
            carried_out: Vec::new(),
        }
    }

    fn read(&mut self, connection: &mut Connection, now: Timestamp) -> Result<(), StoreFailed> {
        let looked = Looked::at(&self.path, connection)?;
        self.length = looked.length;
        self.fault = looked.fault(connection)?;
        match &looked.text {
            Ok(None) if self.fault.is_none() => self.begin(connection, looked.id, now)?,
            Ok(Some(text)) if !matches!(self.fault, Some(LedgerFault::OfAnother(_))) => {
                self.take_over(connection, text, looked.id.is_none(), now)?;
            }
            _ => {}
        }
        if self.fault.is_none() {
            self.fault = appended::try_append(&self.path)
                .and_then(|()| appended::restrict(&self.path))
                .err()
                .map(|error| unusable(&self.path, &error));
        }
        if let Some(fault) = &self.fault {
            self.purged.set().extend(purged_now(connection)?);
            tracing::error!("the ledger of purges: {fault}. Until then nobody is purged");
        }
        self.is_ahead = false;
        Ok(())
    }

    /// Makes the ledger of a warehouse that has none, with the purges that it knows.
    fn begin(
        &mut self,
        connection: &mut Connection,
        id: Option<String>,
        now: Timestamp,
    ) -> Result<(), StoreFailed> {
        let id = id.unwrap_or_else(new_id);
        let entries = entries_of(connection, now)?;
        let text = ledger::text_of(&id, &entries);
        // The id is noted once its ledger is there: else that would be missed.
        if let Err(error) = appended::create(&self.path, &text) {
            self.fault = Some(unusable(&self.path, &error));
            return Ok(());
        }
        self.last = ledger::read(text.as_bytes()).last;
        self.length = text.len() as u64;
        *self.purged.set() = purged_by(&entries);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        note(&transaction, WAREHOUSE_ID, &id)?;
        note(&transaction, LEDGER_HEAD, &self.last)?;
        Ok(transaction.commit()?)
    }

    /// Carries out what the warehouse does not know, and notes how far it has read.
    fn take_over(
        &mut self,
        connection: &mut Connection,
        text: &LedgerText,
        adopts_id: bool,
        now: Timestamp,
    ) -> Result<(), StoreFailed> {
        self.last.clone_from(&text.last);
        *self.purged.set() = purged_by(&text.entries);
        if self.fault.is_none() {
            self.mend(text.tail);
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.carried_out.extend(carry_out(&transaction, &text.entries, now)?);
        if let Some(id) = text.warehouse.as_ref().filter(|_| adopts_id) {
            note(&transaction, WAREHOUSE_ID, id)?;
        }
        if self.fault.is_none() {
            note(&transaction, LEDGER_HEAD, &self.last)?;
        }
        Ok(transaction.commit()?)
    }

    /// Ends a last line that a crash left without its end, or cuts it off if it is half a line.
    fn mend(&mut self, tail: Tail) {
        let mended = match tail {
            Tail::Whole => return,
            Tail::Unended => {
                let length = self.length;
                self.length += 1;
                appended::append(&self.path, length, "\n")
            }
            Tail::Torn { whole } => {
                tracing::warn!(
                    "{}: its last line was cut off by a crash before its purge was committed; it is taken out",
                    self.path.display()
                );
                self.length = whole as u64;
                appended::cut(&self.path, self.length)
            }
        };
        self.fault = mended.err().map(|error| unusable(&self.path, &error));
    }

    pub(super) fn fault(&self) -> Option<LedgerFault> {
        self.fault.clone()
    }

    pub(super) fn take_carried_out(&mut self) -> Vec<CarriedOut> {
        std::mem::take(&mut self.carried_out)
    }

    pub(super) fn purged(&self) -> PurgedPatients {
        self.purged.clone()
    }

    /// Runs `work`, which purges and writes its line, in a transaction of its own.
    pub(super) fn in_transaction<T>(
        &mut self,
        connection: &mut Connection,
        now: Timestamp,
        work: impl FnOnce(&Connection, &mut Self) -> Result<T, StoreFailed>,
    ) -> Result<T, StoreFailed> {
        if self.is_ahead {
            // A line was written, and its purge not committed: it is carried out now.
            self.read(connection, now)?;
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction, self)?;
        #[cfg(test)]
        crate::simulation::stage::beside_a_commit();
        transaction.commit()?;
        #[cfg(test)]
        crate::simulation::stage::beside_a_commit();
        self.is_ahead = false;
        Ok(done)
    }

    /// Writes the line of a purge that is committed next. `Ok` means that it is on the disk.
    pub(super) fn note_purge(
        &mut self,
        transaction: &Connection,
        purge: &Purge<'_>,
        erased: &Erased,
    ) -> Result<(), StoreFailed> {
        self.add(transaction, &entry_of(purge, erased))?;
        self.purged.set().insert(purge.person.clone());
        Ok(())
    }

    /// Writes that a patient who was purged is pulled again.
    pub(super) fn note_returned(
        &mut self,
        transaction: &Connection,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<(), StoreFailed> {
        self.add(transaction, &Entry { time: now, person: person.clone(), kind: EntryKind::Returned })?;
        self.purged.set().remove(person);
        Ok(())
    }

    fn add(&mut self, transaction: &Connection, entry: &Entry) -> Result<(), StoreFailed> {
        if let Some(fault) = &self.fault {
            return Err(StoreFailed::Ledger(fault.clone()));
        }
        let line = ledger::line(entry, &self.last);
        let text = format!("{line}\n");
        self.is_ahead = true;
        if let Err(error) = appended::append(&self.path, self.length, &text) {
            return Err(StoreFailed::Ledger(unusable(&self.path, &error)));
        }
        self.last = ledger::hash(line.as_bytes());
        self.length += text.len() as u64;
        note(transaction, LEDGER_HEAD, &self.last)
    }
}

/// Carries out on one file what another one's log of purges knows.
pub(super) fn carry_out_log_of(
    other: &Connection,
    connection: &mut Connection,
    now: Timestamp,
) -> Result<Vec<CarriedOut>, StoreFailed> {
    let entries = entries_of(other, now)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let carried_out = carry_out(&transaction, &entries, now)?;
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
    let failed = |error: &std::io::Error| StoreFailed::Ledger(unusable(path, error));
    let kept = with_suffix(path, &format!(".damaged-{}", now.in_file_name()));
    let kept = match std::fs::rename(path, &kept) {
        Ok(()) => Some(kept),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(&error)),
    };
    connection.execute("DELETE FROM about WHERE name = ?1", [LEDGER_HEAD])?;
    let id = noted(connection, WAREHOUSE_ID)?;
    let mut book = LedgerBook::unread(path.to_owned());
    book.begin(connection, id, now)?;
    book.fault.map_or(Ok(kept), |fault| Err(StoreFailed::Ledger(fault)))
}

fn entry_of(purge: &Purge<'_>, erased: &Erased) -> Entry {
    let kind = EntryKind::Purge(PurgeEntry {
        reason: purge.reason,
        by: purge.by.to_owned(),
        refused_at: purge.refused_at,
        rows_by_table: erased.rows_by_table.clone(),
    });
    Entry { time: purge.now, person: purge.person.clone(), kind }
}

fn purged_by(entries: &[Entry]) -> HashSet<PersonId> {
    let mut purged = HashSet::new();
    for entry in entries {
        match entry.kind {
            EntryKind::Purge(_) => purged.insert(entry.person.clone()),
            EntryKind::Returned => purged.remove(&entry.person),
        };
    }
    purged
}

/// By what a purge of the ledger is found in `purge_log`.
#[derive(PartialEq, Eq, Hash)]
struct PurgeKey {
    person: String,
    purged_at: String,
}

fn key_of(entry: &Entry) -> PurgeKey {
    PurgeKey { person: entry.person.to_string(), purged_at: stamp(entry.time) }
}

/// How often each purge is in `purge_log`.
fn known_purges(connection: &Connection) -> Result<HashMap<PurgeKey, u64>, StoreFailed> {
    let mut statement = connection.prepare("SELECT person_id, purged_at FROM purge_log")?;
    let mut rows = statement.query([])?;
    let mut known = HashMap::new();
    while let Some(row) = rows.next()? {
        *known.entry(PurgeKey { person: row.get(0)?, purged_at: row.get(1)? }).or_default() += 1;
    }
    Ok(known)
}

/// Returns the places of the purges that `purge_log` lacks.
fn unknown(connection: &Connection, entries: &[Entry]) -> Result<Vec<usize>, StoreFailed> {
    let mut known = known_purges(connection)?;
    let mut unknown = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        if entry.kind == EntryKind::Returned {
            continue;
        }
        match known.get_mut(&key_of(entry)) {
            Some(count) if *count > 0 => *count -= 1,
            _ => unknown.push(at),
        }
    }
    Ok(unknown)
}

/// Erases who was purged and is there again. A purge after which the patient returned is only put
/// back into `purge_log`.
fn carry_out(
    connection: &Connection,
    entries: &[Entry],
    now: Timestamp,
) -> Result<Vec<CarriedOut>, StoreFailed> {
    let returned = entries.iter().enumerate().filter(|(_, entry)| entry.kind == EntryKind::Returned);
    let returned: HashMap<&PersonId, usize> = returned.map(|(at, entry)| (&entry.person, at)).collect();
    let mut carried_out = Vec::new();
    for at in unknown(connection, entries)? {
        let Entry { time, person, kind: EntryKind::Purge(entry) } = &entries[at] else { continue };
        let purge = Purge {
            person,
            reason: entry.reason,
            by: &entry.by,
            refused_at: entry.refused_at,
            confirmed_at: *time,
            now: *time,
            carried_out_at: Some(now),
        };
        if returned.get(person).is_some_and(|returned| *returned > at) {
            purge::log(connection, &purge, None, &Erased { rows_by_table: entry.rows_by_table.clone() })?;
            continue;
        }
        let rows = purge::erase(connection, &purge)?.rows();
        let (reason, time) = (entry.reason.as_str(), stamp(*time));
        tracing::warn!(
            person = %person, rows, reason,
            "{person} was purged at {time} ({reason}), which this file did not know: {rows} rows are erased now"
        );
        carried_out.push(CarriedOut { person: person.clone(), reason: entry.reason, rows });
    }
    if !carried_out.is_empty() {
        let purges = carried_out.len();
        tracing::warn!(
            purges,
            "{purges} purges of the ledger were carried out: the file is older than they are, as after a restore"
        );
    }
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

fn has_purges(connection: &Connection) -> Result<bool, StoreFailed> {
    Ok(connection.prepare("SELECT 1 FROM purge_log LIMIT 1")?.exists([])?)
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

fn note(connection: &Connection, name: &str, value: &str) -> Result<(), StoreFailed> {
    connection.execute(
        "INSERT INTO about (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [name, value],
    )?;
    Ok(())
}
