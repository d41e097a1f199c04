//! The ledger of purges at work: held against what a warehouse knows, and written before a purge is
//! committed.
//!
//! Promise: nobody is purged without a line, so a ledger that is damaged, lost or not writable is a fault
//! that stays until it is mended. Absent on purpose: transactions, which each engine has of its own.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::with_suffix;
use super::ledger_text::{Entry, EntryKind, LedgerText, LineHash, PurgeEntry, Tail};
use super::{appended, beside, in_real_folder, ledger_text};
use crate::machine;
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp, stamp};
use crate::warehouse::failure::{LedgerFault, StoreFailed};
use crate::warehouse::place::Place;
use crate::warehouse::purge::{CarriedOut, Erased, LedgerReport, Purge};

/// A ledger, open for writing.
pub(in crate::warehouse) struct Ledger {
    path: PathBuf,
    last: LineHash,
    length: u64,
    purged: PurgedPatients,
    fault: Option<LedgerFault>,
    /// A line may be there whose purge is not committed.
    is_ahead: bool,
    /// That line, once it is on the disk.
    ahead: Option<Entry>,
    /// What was carried out and not asked for yet.
    carried_out: Vec<CarriedOut>,
}

/// Those whose last line in the ledger is a purge. Looked at by others for moments.
#[derive(Clone, Debug, Default)]
pub(in crate::warehouse) struct PurgedPatients(Arc<Mutex<HashSet<PersonId>>>);

impl PurgedPatients {
    pub(in crate::warehouse) fn contains(&self, person: &PersonId) -> bool {
        self.set().contains(person)
    }

    fn set(&self) -> MutexGuard<'_, HashSet<PersonId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a warehouse knows of its purges and of this ledger.
#[derive(Clone, Debug, Default)]
pub(in crate::warehouse) struct Known {
    /// By which ledgers name it.
    pub(in crate::warehouse) id: Option<String>,
    /// Whether it had this ledger before.
    pub(in crate::warehouse) has_ledger: bool,
    /// The hash of the line that was written or read last.
    pub(in crate::warehouse) head: Option<LineHash>,
    /// What `purge_log` holds, once for each of its rows.
    pub(in crate::warehouse) purges: Vec<PurgeKey>,
}

/// By what a purge of the ledger is found in `purge_log`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::warehouse) struct PurgeKey {
    pub(in crate::warehouse) person: String,
    pub(in crate::warehouse) purged_at: String,
}

/// What the warehouse is to note of its ledger.
#[derive(Clone, Debug, Default)]
pub(in crate::warehouse) struct ToNote {
    pub(in crate::warehouse) id: Option<String>,
    pub(in crate::warehouse) head: Option<LineHash>,
}

impl ToNote {
    /// Returns whether the warehouse does not know it already.
    pub(in crate::warehouse) fn is_news(&self, known: &Known) -> bool {
        self.id.is_some() || (self.head.is_some() && self.head != known.head)
    }
}

/// What was found where the ledger should be.
pub(in crate::warehouse) enum Found {
    /// Nothing, and nothing is missed.
    Nothing,
    Text(LedgerText),
    /// What cannot be read, or is not this warehouse's, or is missed.
    Unusable,
}

/// A purge of the ledger that the warehouse does not know.
#[derive(Clone, Debug)]
pub(in crate::warehouse) struct UnknownPurge {
    pub(in crate::warehouse) person: PersonId,
    time: Timestamp,
    entry: PurgeEntry,
    /// Whether the patient returned after it: then it is only logged.
    pub(in crate::warehouse) has_returned: bool,
}

impl UnknownPurge {
    /// Returns the purge as it is carried out now.
    pub(in crate::warehouse) fn purge(&self, now: Timestamp) -> Purge<'_> {
        Purge {
            person: &self.person,
            reason: self.entry.reason,
            by: &self.entry.by,
            refused_at: self.entry.refused_at,
            confirmed_at: self.time,
            now: self.time,
            carried_out_at: Some(now),
        }
    }

    /// Returns whether an operator has ordered it, so that its patient is not pulled until that is asked for.
    pub(in crate::warehouse) fn is_by_hand(&self) -> bool {
        self.entry.reason == PurgeReason::Operator
    }

    /// Returns what it erased when it was made.
    pub(in crate::warehouse) fn erased(&self) -> Erased {
        Erased { rows_by_table: self.entry.rows_by_table.clone() }
    }

    /// Says that it is carried out.
    pub(in crate::warehouse) fn carried_out(&self, erased: &Erased) -> CarriedOut {
        let Self { person, time, entry, .. } = self;
        let (rows, reason, time) = (erased.rows(), entry.reason.as_str(), stamp(*time));
        tracing::warn!(
            person = %person, rows, reason,
            "{person} was purged at {time} ({reason}), which this warehouse did not know: {rows} rows are erased now"
        );
        CarriedOut { person: person.clone(), reason: entry.reason, rows }
    }
}

/// Tells of purges that were carried out, all together.
pub(in crate::warehouse) fn tell_carried_out(carried_out: &[CarriedOut]) {
    if !carried_out.is_empty() {
        let purges = carried_out.len();
        tracing::warn!(
            purges,
            "{purges} purges of the ledger were carried out: the warehouse is older than they are, as after a restore"
        );
    }
}

/// Returns where a warehouse's ledger is. The folders on the way to it may be links, the ledger
/// may not.
pub(in crate::warehouse) fn resolve(place: &Place) -> PathBuf {
    at(place.path(), place.ledger.as_deref())
}

/// Returns where the ledger of a warehouse at a path is, if it has none of another name.
pub(in crate::warehouse) fn at(warehouse: &Path, ledger: Option<&Path>) -> PathBuf {
    ledger.map_or_else(|| beside(warehouse, ".purges"), in_real_folder)
}

/// Returns an id for a warehouse that has none.
pub(in crate::warehouse) fn new_id() -> String {
    format!("{:032x}", machine::unique())
}

/// Compares ledger and warehouse, which is this account's or not. Changes neither.
pub(in crate::warehouse) fn report(path: &Path, known: &Known, owned: bool) -> LedgerReport {
    let looked = Looked::at(path);
    // Who may read the warehouse by its group may not read the ledger, and cannot judge it.
    let is_forbidden =
        looked.text.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    if is_forbidden && !owned {
        return LedgerReport::default();
    }
    let mut report = LedgerReport { fault: looked.fault(known), ..LedgerReport::default() };
    if let Ok(Some(text)) = &looked.text
        && !matches!(report.fault, Some(LedgerFault::OfAnother(_)))
    {
        report.purges = text.entries.iter().filter(|entry| entry.kind != EntryKind::Returned).count() as u64;
        report.unknown = unknown(known, &text.entries).len() as u64;
        if report.fault.is_none() {
            report.fault = appended::try_append(path).err().map(|error| unusable(path, &error));
        }
    }
    report
}

fn unusable(path: &Path, error: &std::io::Error) -> LedgerFault {
    LedgerFault::Unusable { path: path.to_owned(), why: error.to_string() }
}

/// A ledger as it was found.
struct Looked {
    path: PathBuf,
    text: Result<Option<LedgerText>, std::io::Error>,
    length: u64,
}

impl Looked {
    fn at(path: &Path) -> Self {
        let bytes = appended::read(path);
        let length = bytes.as_ref().map_or(0, |bytes| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64));
        let text = bytes.map(|bytes| bytes.map(|bytes| ledger_text::read(&bytes)));
        Self { path: path.to_owned(), text, length }
    }

    fn fault(&self, known: &Known) -> Option<LedgerFault> {
        let path = self.path.clone();
        let text = match &self.text {
            Err(error) => return Some(unusable(&path, error)),
            Ok(None) => {
                let is_missing = known.has_ledger && !known.purges.is_empty();
                return is_missing.then_some(LedgerFault::Missing(path));
            }
            Ok(Some(text)) => text,
        };
        if is_of_another(text, known) {
            return Some(LedgerFault::OfAnother(path));
        }
        if let Some(fault) = &text.fault {
            return Some(LedgerFault::Damaged { path, line: fault.line, what: fault.what });
        }
        let is_cut_off = known.head.as_ref().is_some_and(|head| !text.hashes.contains(head));
        is_cut_off.then_some(LedgerFault::CutOff(path))
    }
}

/// Returns whether the ledger is another warehouse's. One without an id, older than ledgers, can only be
/// held against it by its purges.
fn is_of_another(text: &LedgerText, known: &Known) -> bool {
    match (&known.id, &text.warehouse) {
        (Some(id), Some(warehouse)) => id != warehouse,
        (_, None) => false,
        (None, Some(_)) => {
            let told: HashSet<PurgeKey> = text.entries.iter().map(key_of).collect();
            known.purges.iter().any(|purge| !told.contains(purge))
        }
    }
}

impl Ledger {
    /// Returns the ledger of this path, to be read before anything else.
    pub(in crate::warehouse) fn unread(path: PathBuf) -> Self {
        Self {
            path,
            last: LineHash::new(),
            length: 0,
            purged: PurgedPatients::default(),
            fault: None,
            is_ahead: false,
            ahead: None,
            carried_out: Vec::new(),
        }
    }

    /// Looks for the file, and holds it against what the warehouse knows. A fault of a ledger is no failure
    /// of this.
    pub(in crate::warehouse) fn look(&mut self, known: &Known) -> Found {
        let looked = Looked::at(&self.path);
        self.length = looked.length;
        self.fault = looked.fault(known);
        match looked.text {
            Ok(None) if self.fault.is_none() => Found::Nothing,
            Ok(Some(text)) if !matches!(self.fault, Some(LedgerFault::OfAnother(_))) => Found::Text(text),
            _ => Found::Unusable,
        }
    }

    /// Returns the id of the warehouse that the file is of, else a new one.
    pub(in crate::warehouse) fn id_to_give(&self) -> String {
        let text = Looked::at(&self.path).text.ok().flatten();
        text.and_then(|text| text.warehouse).unwrap_or_else(new_id)
    }

    /// Makes the ledger of a warehouse that has none, with the purges that it knows. `None` where the
    /// file cannot be made.
    pub(in crate::warehouse) fn begin(&mut self, id: Option<String>, entries: &[Entry]) -> Option<ToNote> {
        let id = id.unwrap_or_else(new_id);
        let text = ledger_text::text_of(&id, entries);
        // The id is noted once its ledger is there: else that would be missed.
        if let Err(error) = appended::create(&self.path, &text) {
            self.fault = Some(unusable(&self.path, &error));
            return None;
        }
        self.last = ledger_text::read(text.as_bytes()).last;
        self.length = text.len() as u64;
        *self.purged.set() = purged_by(entries);
        Some(ToNote { id: Some(id), head: Some(self.last.clone()) })
    }

    /// Takes over what the ledger says. Returns what the warehouse is to carry out and to note, in one
    /// transaction.
    pub(in crate::warehouse) fn take_over(
        &mut self,
        text: &LedgerText,
        known: &Known,
    ) -> (Vec<UnknownPurge>, ToNote) {
        self.last.clone_from(&text.last);
        *self.purged.set() = purged_by(&text.entries);
        if self.fault.is_none() {
            self.mend(text.tail);
        }
        let note = ToNote {
            id: text.warehouse.clone().filter(|_| known.id.is_none()),
            head: self.fault.is_none().then(|| self.last.clone()),
        };
        (unknown(known, &text.entries), note)
    }

    /// Notes that the ledger is read. Returns whether it can be written to.
    pub(in crate::warehouse) fn has_been_read(&mut self, carried_out: Vec<CarriedOut>) -> bool {
        self.carried_out.extend(carried_out);
        self.has_committed();
        if self.fault.is_none() {
            self.fault = appended::try_append(&self.path)
                .and_then(|()| appended::restrict(&self.path))
                .err()
                .map(|error| unusable(&self.path, &error));
        }
        if let Some(fault) = &self.fault {
            tracing::error!("the ledger of purges: {fault}. Until then nobody is purged");
        }
        self.fault.is_none()
    }

    /// Takes in who is purged by the warehouse, where no ledger tells it.
    pub(in crate::warehouse) fn take_purged(&mut self, purged: impl IntoIterator<Item = PersonId>) {
        self.purged.set().extend(purged);
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

    pub(in crate::warehouse) fn fault(&self) -> Option<LedgerFault> {
        self.fault.clone()
    }

    pub(in crate::warehouse) fn take_carried_out(&mut self) -> Vec<CarriedOut> {
        std::mem::take(&mut self.carried_out)
    }

    pub(in crate::warehouse) fn purged(&self) -> PurgedPatients {
        self.purged.clone()
    }

    /// Returns whether a line was written whose purge may not be committed: the ledger is to be read again
    /// before the next.
    pub(in crate::warehouse) fn is_ahead(&self) -> bool {
        self.is_ahead
    }

    /// Returns whether the file is another than was read last, as where several processes write into it.
    pub(in crate::warehouse) fn has_changed(&self) -> bool {
        !self.is_ahead && std::fs::metadata(&self.path).is_ok_and(|file| file.len() != self.length)
    }

    /// Notes that what the last line says is committed.
    pub(in crate::warehouse) fn has_committed(&mut self) {
        self.is_ahead = false;
        self.ahead = None;
    }

    /// Writes the line of a purge that is committed next, once for all attempts to commit it. `Ok` means
    /// that it is on the disk; the warehouse is to note its hash.
    pub(in crate::warehouse) fn write_purge(
        &mut self,
        purge: &Purge<'_>,
        erased: &Erased,
    ) -> Result<LineHash, StoreFailed> {
        let kind = EntryKind::Purge(PurgeEntry {
            reason: purge.reason,
            by: purge.by.to_owned(),
            refused_at: purge.refused_at,
            rows_by_table: erased.rows_by_table.clone(),
        });
        let head = self.write(Entry { time: purge.now, person: purge.person.clone(), kind })?;
        self.purged.set().insert(purge.person.clone());
        Ok(head)
    }

    /// Writes that a patient who was purged is pulled again.
    pub(in crate::warehouse) fn write_returned(
        &mut self,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<LineHash, StoreFailed> {
        let head = self.write(Entry { time: now, person: person.clone(), kind: EntryKind::Returned })?;
        self.purged.set().remove(person);
        Ok(head)
    }

    fn write(&mut self, entry: Entry) -> Result<LineHash, StoreFailed> {
        if let Some(fault) = &self.fault {
            return Err(StoreFailed::Ledger(fault.clone()));
        }
        if self.ahead.as_ref() == Some(&entry) {
            return Ok(self.last.clone());
        }
        let line = ledger_text::line(&entry, &self.last);
        let text = format!("{line}\n");
        self.is_ahead = true;
        self.ahead = None;
        if let Err(error) = appended::append(&self.path, self.length, &text) {
            return Err(StoreFailed::Ledger(unusable(&self.path, &error)));
        }
        self.last = ledger_text::hash(line.as_bytes());
        self.length += text.len() as u64;
        self.ahead = Some(entry);
        Ok(self.last.clone())
    }

    /// Gives a ledger that is lost or damaged another name, so that another can begin. Returns the name.
    pub(in crate::warehouse) fn set_aside(&self, now: Timestamp) -> Result<Option<PathBuf>, StoreFailed> {
        let kept = with_suffix(&self.path, &format!(".damaged-{}", now.in_file_name()));
        match std::fs::rename(&self.path, &kept) {
            Ok(()) => Ok(Some(kept)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreFailed::Ledger(unusable(&self.path, &error))),
        }
    }
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

fn key_of(entry: &Entry) -> PurgeKey {
    PurgeKey { person: entry.person.to_string(), purged_at: stamp(entry.time) }
}

/// Returns the purges that the warehouse lacks.
pub(in crate::warehouse) fn unknown(known: &Known, entries: &[Entry]) -> Vec<UnknownPurge> {
    let mut counts: HashMap<&PurgeKey, u64> = HashMap::new();
    known.purges.iter().for_each(|purge| *counts.entry(purge).or_default() += 1);
    let returned = entries.iter().enumerate().filter(|(_, entry)| entry.kind == EntryKind::Returned);
    let returned: HashMap<&PersonId, usize> = returned.map(|(at, entry)| (&entry.person, at)).collect();
    let mut unknown = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let EntryKind::Purge(purge) = &entry.kind else { continue };
        match counts.get_mut(&key_of(entry)) {
            Some(count) if *count > 0 => *count -= 1,
            _ => unknown.push(UnknownPurge {
                person: entry.person.clone(),
                time: entry.time,
                entry: purge.clone(),
                has_returned: returned.get(&entry.person).is_some_and(|returned| *returned > at),
            }),
        }
    }
    unknown
}
