//! The ledger of purges and this engine: what the warehouse knows of it, and its lines, which are written within the
//! transaction of a purge. Each machine's ledger is remembered by itself.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cycle_ends::{note_text, noted_text};
use super::failure::Undone;
use super::right::Right;
use super::session::Session;
use super::{checkpoint, purge};
use crate::machine;
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp, stamp};
use crate::warehouse::beside::ledger;
use crate::warehouse::beside::ledger::{Known, Ledger, PurgeKey, ToNote, UnknownPurge, tell_carried_out};
use crate::warehouse::beside::ledger_text::{Entry, EntryKind, PurgeEntry};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::purge::{CarriedOut, Erased, LedgerReport, Purge};

const WAREHOUSE_ID: &str = "warehouse_id";

/// A ledger, and by which name the warehouse remembers its last line.
pub(super) struct LedgerBook {
    ledger: Mutex<Ledger>,
    head: String,
    /// Another process of this machine has written into it.
    is_outdated: AtomicBool,
}

/// The hash of the line that this machine wrote or read last is noted under this name.
fn head_of(path: &Path) -> String {
    let host = machine::host_name();
    format!("ledger_head {host}:{}", path.display())
}

/// Compares this machine's ledger and the warehouse. Changes neither.
pub(super) async fn report(session: &Session, path: &Path) -> Result<LedgerReport, Undone> {
    Ok(ledger::report(path, &known(session, &head_of(path)).await?, true))
}

impl LedgerBook {
    pub(super) fn unread(path: PathBuf) -> Self {
        let head = head_of(&path);
        Self { ledger: Mutex::new(Ledger::unread(path)), head, is_outdated: AtomicBool::new(false) }
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns by which name the warehouse remembers its last line.
    pub(super) fn head(&self) -> &str {
        &self.head
    }

    /// Keeps all others of this machine from the ledger until the transaction ends.
    pub(super) async fn begin_alone(&self, session: &Session) -> Result<(), Undone> {
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema()::text || ' ' || $1, 0))";
        session.rows(lock, &[&self.head.as_str()]).await?;
        Ok(())
    }

    /// Keeps all others of this machine from the ledger, and refuses to write behind what was not read.
    async fn expect_read(&self, session: &Session) -> Result<(), Undone> {
        self.begin_alone(session).await?;
        if self.locked().has_changed() {
            self.is_outdated.store(true, Ordering::Relaxed);
            return Err(Undone::Failed(StoreFailed::Busy(
                "another process has written into the ledger of purges".to_owned(),
            )));
        }
        Ok(())
    }

    /// Returns whether the ledger has to be read again, since this was last asked.
    pub(super) fn take_outdated(&self) -> bool {
        self.is_outdated.swap(false, Ordering::Relaxed)
    }

    /// Writes the line of a purge that is committed next, if this process still may. `Ok` means that it is on
    /// the disk.
    pub(super) async fn note_purge(
        &self,
        session: &Session,
        right: &Right,
        purge: &Purge<'_>,
        erased: &Erased,
    ) -> Result<(), Undone> {
        right.check(session).await?;
        self.expect_read(session).await?;
        let head = self.locked().write_purge(purge, erased)?;
        self.note(session, &ToNote { id: None, head: Some(head) }).await
    }

    /// Writes that a patient who was purged is pulled again, if this process still may.
    pub(super) async fn note_returned(
        &self,
        session: &Session,
        right: &Right,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<(), Undone> {
        right.check(session).await?;
        self.expect_read(session).await?;
        let head = self.locked().write_returned(person, now)?;
        self.note(session, &ToNote { id: None, head: Some(head) }).await
    }

    pub(super) async fn note(&self, session: &Session, ToNote { id, head }: &ToNote) -> Result<(), Undone> {
        if let Some(id) = id {
            note_text(session, WAREHOUSE_ID, id).await?;
        }
        match head {
            Some(head) => note_text(session, &self.head, head).await,
            None => Ok(()),
        }
    }
}

/// Returns by which id ledgers know the warehouse, once it has one.
pub(super) async fn id(session: &Session) -> Result<Option<String>, Undone> {
    noted_text(session, WAREHOUSE_ID).await
}

/// Gives the warehouse an id, unless somebody has.
pub(super) async fn give_id(session: &Session, id: &str) -> Result<(), Undone> {
    let statement = "INSERT INTO about (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    session.execute(statement, &[&WAREHOUSE_ID, &id]).await.map(drop)
}

/// Returns what the warehouse knows of its purges.
pub(super) async fn known(session: &Session, head: &str) -> Result<Known, Undone> {
    let purges = session.rows("SELECT person_id, purged_at FROM purge_log", &[]).await?;
    let purges = purges.iter().map(|row| {
        let purged_at: Timestamp = row.try_get(1)?;
        Ok(PurgeKey { person: row.try_get(0)?, purged_at: stamp(purged_at) })
    });
    let purges = purges.collect::<Result<_, Undone>>()?;
    let (id, head) = (noted_text(session, WAREHOUSE_ID).await?, noted_text(session, head).await?);
    Ok(Known { has_ledger: head.is_some(), id, head, purges })
}

/// Erases who was purged and is there again. A purge after which the patient returned is only put
/// back into `purge_log`.
pub(super) async fn carry_out(
    session: &Session,
    unknown: &[UnknownPurge],
    now: Timestamp,
) -> Result<Vec<CarriedOut>, Undone> {
    let mut carried_out = Vec::new();
    for unknown in unknown {
        if unknown.has_returned {
            purge::log(session, &unknown.purge(now), None, &unknown.erased()).await?;
        } else {
            if unknown.is_by_hand() {
                checkpoint::remember(session, &unknown.person, now).await?;
            }
            carried_out.push(unknown.carried_out(&purge::erase(session, &unknown.purge(now)).await?));
        }
    }
    tell_carried_out(&carried_out);
    Ok(carried_out)
}

/// Returns what `purge_log` knows as a ledger tells it.
pub(super) async fn entries_of(session: &Session, now: Timestamp) -> Result<Vec<Entry>, Undone> {
    let damaged = |what: &str| StoreFailed::Damaged(format!("purge_log.{what} cannot be read"));
    let person_of = |text: String| PersonId::parse(&text).map_err(|_| damaged("person_id"));
    let statement =
        "SELECT person_id, reason, by, refused_at, purged_at, rows_by_table FROM purge_log ORDER BY id";
    let mut entries = Vec::new();
    for row in session.rows(statement, &[]).await? {
        let purge = PurgeEntry {
            reason: PurgeReason::parse(row.try_get(1)?).ok_or_else(|| damaged("reason"))?,
            by: row.try_get(2)?,
            refused_at: row.try_get(3)?,
            rows_by_table: serde_json::from_str(row.try_get(5)?).unwrap_or_default(),
        };
        entries.push(Entry {
            time: row.try_get(4)?,
            person: person_of(row.try_get(0)?)?,
            kind: EntryKind::Purge(purge),
        });
    }
    let returned = "SELECT person_id FROM checkpoint
          WHERE holds_rows AND person_id IN (SELECT person_id FROM purge_log)";
    for row in session.rows(returned, &[]).await? {
        entries.push(Entry { time: now, person: person_of(row.try_get(0)?)?, kind: EntryKind::Returned });
    }
    Ok(entries)
}

/// Returns who is purged by the checkpoints, where no ledger tells it.
pub(super) async fn purged_now(session: &Session) -> Result<Vec<PersonId>, Undone> {
    let ids = session.rows("SELECT person_id FROM checkpoint WHERE purged_at IS NOT NULL", &[]).await?;
    let ids = ids.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<Vec<String>, Undone>>()?;
    Ok(ids.iter().filter_map(|id| PersonId::parse(id).ok()).collect())
}
