//! The door's purges: each of them one transaction, which has its line in the ledger before it is committed.
//!
//! Promise: one at a time, since each line names the one before it.

use std::path::PathBuf;
use std::sync::Arc;

use super::failure::Undone;
use super::ledger::LedgerBook;
use super::open_warehouse::Engine;
use super::right::Right;
use super::session::{Session, Step};
use super::{checkpoint, failover, ledger, pulls, purge, purge_log, runtime};
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp};
use crate::warehouse::beside;
use crate::warehouse::beside::ledger::Found;
use crate::warehouse::failure::{LedgerFault, OpenFailed, StoreFailed};
use crate::warehouse::place::{OtherServer, Place, Server};
use crate::warehouse::pull::{PullCost, PullEnded};
use crate::warehouse::purge::{BY_ITSELF, CarriedOut, Erased, Purge, PurgedPatient};

impl Engine {
    /// Returns what was carried out of the ledger since this was last asked.
    pub(in crate::warehouse) fn carried_out(&self) -> Vec<CarriedOut> {
        self.ledger.locked().take_carried_out()
    }

    pub(super) fn ledger_fault(&self) -> Option<LedgerFault> {
        self.ledger.locked().fault()
    }

    /// Notes on which history the server is, and says that it is another one than before.
    pub(super) async fn notice_failover(&self, now: Timestamp) -> Result<(), StoreFailed> {
        let history = match self.look(|session| Box::pin(failover::history(session))).await {
            Ok(history) => Arc::new(history),
            Err(StoreFailed::Engine(why)) => {
                tracing::debug!("the server does not tell its timeline: {why}");
                return Ok(());
            }
            Err(failed) => return Err(failed),
        };
        let known = self.look(|session| {
            let history = history.clone();
            Box::pin(async move { failover::is_known(session, &history).await })
        });
        if known.await? {
            return Ok(());
        }
        let noticed = self.write_freely(|session| {
            let history = history.clone();
            Box::pin(async move { failover::notice(session, &history, now).await })
        });
        if let Some(failover) = noticed.await? {
            tracing::warn!("{failover}");
        }
        Ok(())
    }

    /// Looks, where a connection was lost, whether another server answers since, and repeats what that does not know.
    pub(super) async fn notice_failover_meanwhile(&self, now: Timestamp) -> Result<(), StoreFailed> {
        if !self.pool().take_cut_off() {
            return Ok(());
        }
        let _turn = self.ledger_turn.lock().await;
        self.notice_failover(now).await?;
        self.read_ledger(now).await
    }

    /// Reads the ledger, makes it where there is none, and carries out what the warehouse does not know of it, as after
    /// a restore or a failover. The fault of a ledger is no failure of this.
    pub(super) async fn read_ledger(&self, now: Timestamp) -> Result<(), StoreFailed> {
        self.agree_on_id().await?;
        let ledger = self.ledger.clone();
        let read = self.write_freely(move |session| {
            let ledger = ledger.clone();
            Box::pin(async move {
                ledger.begin_alone(session).await?;
                let known = ledger::known(session, ledger.head()).await?;
                let found = ledger.locked().look(&known);
                match found {
                    Found::Nothing => {
                        begin_ledger(session, &ledger, known.id, now).await?;
                        Ok(Vec::new())
                    }
                    Found::Text(text) => {
                        let (unknown, to_note) = ledger.locked().take_over(&text, &known);
                        let carried_out = ledger::carry_out(session, &unknown, now).await?;
                        if !unknown.is_empty() || to_note.is_news(&known) {
                            ledger.note(session, &to_note).await?;
                        }
                        Ok(carried_out)
                    }
                    Found::Unusable => Ok(Vec::new()),
                }
            })
        });
        let carried_out = read.await?;
        if !self.ledger.locked().has_been_read(carried_out) {
            let purged = self.look(|session| Box::pin(ledger::purged_now(session))).await?;
            self.ledger.locked().take_purged(purged);
        }
        Ok(())
    }

    /// Has the warehouse named by the first that comes, before any ledger says so: two that begin theirs at once name it
    /// alike, and whoever is killed meanwhile leaves no ledger of another name.
    async fn agree_on_id(&self) -> Result<(), StoreFailed> {
        if self.look(|session| Box::pin(ledger::id(session))).await?.is_some() {
            return Ok(());
        }
        let wanted = Arc::new(self.ledger.locked().id_to_give());
        self.write_freely(move |session| {
            let wanted = wanted.clone();
            Box::pin(async move { ledger::give_id(session, &wanted).await })
        })
        .await
    }

    /// Carries out `work`, which writes a line into the ledger.
    async fn with_ledger<T: Send + 'static>(
        &self,
        right: &Right,
        now: Timestamp,
        work: impl for<'s> Fn(&'s Session) -> Step<'s, T> + Send + Sync,
    ) -> Result<T, Undone> {
        let _turn = self.ledger_turn.lock().await;
        loop {
            if self.ledger.locked().is_ahead() {
                // A line was written, and its purge not committed: it is carried out now.
                self.read_ledger(now).await?;
            }
            match self.run(right, &work).await {
                Err(_) if self.ledger.take_outdated() => self.read_ledger(now).await?,
                done => {
                    if done.is_ok() {
                        self.ledger.locked().has_committed();
                    }
                    return done;
                }
            }
        }
    }

    /// Writes that a patient who was purged is pulled again, before it has a row.
    pub(super) async fn note_returned(&self, person: &PersonId, now: Timestamp) -> Result<(), Undone> {
        let right = self.right_over(person);
        let noted = Arc::new((self.ledger.clone(), right.clone(), person.clone()));
        self.with_ledger(&right, now, move |session| {
            let noted = noted.clone();
            Box::pin(async move { noted.0.note_returned(session, &noted.1, &noted.2, now).await })
        })
        .await
    }

    pub(in crate::warehouse) async fn revoke(
        &self,
        ended: PullEnded,
        confirmed_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Erased>, StoreFailed> {
        let (ledger, right, ended) = (self.ledger.clone(), Right::Lead(self.owner()), Arc::new(ended));
        // Of a patient that an operator has purged meanwhile, nothing is judged any more.
        let (noted, holder) = (right.clone(), self.right_over(&ended.head.person));
        let revoked = self.with_ledger(&right, now, move |session| {
            let (ledger, right, ended, holder) =
                (ledger.clone(), noted.clone(), ended.clone(), holder.clone());
            Box::pin(async move {
                holder.check(session).await?;
                let person = &ended.head.person;
                let patient = checkpoint::one(session, person).await?;
                let erased = if let Some(patient) = patient.filter(|patient| patient.holds_rows) {
                    let purge = Purge {
                        person,
                        reason: PurgeReason::ConsentRevoked,
                        by: BY_ITSELF,
                        refused_at: patient.refused_at,
                        confirmed_at,
                        now,
                        carried_out_at: None,
                    };
                    let erased = purge::erase(session, &purge).await?;
                    ledger.note_purge(session, &right, &purge, &erased).await?;
                    Some(erased)
                } else {
                    purge::revoke_without_rows(session, person, now).await?;
                    None
                };
                // The pull's row has gone with the others: what is noted is that somebody asked.
                let cost = PullCost { row: None, ..ended.cost };
                pulls::note_end(session, &PullEnded { cost, ..(*ended).clone() }, now).await?;
                checkpoint::drop_unlisted(session, None).await?;
                Ok(erased)
            })
        });
        match revoked.await {
            Err(Undone::Superseded) => Ok(None),
            revoked => revoked.map_err(Undone::into_failure),
        }
    }

    pub(in crate::warehouse) async fn purge(
        &self,
        person: &PersonId,
        reason: PurgeReason,
        by: &str,
        now: Timestamp,
    ) -> Result<Option<PurgedPatient>, StoreFailed> {
        let asked = Arc::new((person.clone(), by.to_owned()));
        // An operator's word waits for nobody: the patient's row is locked, and whoever deals with it superseded.
        let holder = if reason == PurgeReason::Operator { Right::Anybody } else { self.right_over(person) };
        let right = if self.leads() { Right::Lead(self.owner()) } else { Right::Anybody };
        let (ledger, noted) = (self.ledger.clone(), right.clone());
        let purged = self.with_ledger(&right, now, move |session| {
            let (ledger, right, holder, asked) =
                (ledger.clone(), noted.clone(), holder.clone(), asked.clone());
            Box::pin(async move {
                holder.check(session).await?;
                let (person, by) = &*asked;
                let Some(patient) = checkpoint::one(session, person).await? else { return Ok(None) };
                if !patient.holds_rows && reason != PurgeReason::Operator {
                    return Ok(None);
                }
                let refused_at = patient.refused_at;
                let purge =
                    Purge { person, reason, by, refused_at, confirmed_at: now, now, carried_out_at: None };
                let erased = purge::erase(session, &purge).await?;
                checkpoint::drop_unlisted(session, None).await?;
                ledger.note_purge(session, &right, &purge, &erased).await?;
                Ok(Some(PurgedPatient { name: patient.name().to_owned(), erased }))
            })
        });
        match purged.await {
            Err(Undone::Superseded) => Ok(None),
            purged => purged.map_err(Undone::into_failure),
        }
    }

    pub(in crate::warehouse) async fn unscrubbed(&self) -> Result<Option<Timestamp>, StoreFailed> {
        self.look(|session| Box::pin(purge_log::oldest_unscrubbed(session))).await
    }
}

/// Makes a ledger with the purges that the warehouse knows.
async fn begin_ledger(
    session: &Session,
    ledger: &LedgerBook,
    id: Option<String>,
    now: Timestamp,
) -> Result<(), Undone> {
    let entries = ledger::entries_of(session, now).await?;
    let to_note = ledger.locked().begin(id, &entries);
    match to_note {
        Some(to_note) => ledger.note(session, &to_note).await,
        None => Ok(()),
    }
}

/// Begins another ledger while nobody else writes, in place of one that is lost or damaged. What can be read of that is
/// carried out first. Returns where it is now.
pub(in crate::warehouse) fn begin_ledger_anew(
    place: &Place,
    server: &Arc<Server>,
    now: Timestamp,
) -> Result<Option<PathBuf>, OpenFailed> {
    let engine = Engine::open(place, server, OtherServer::Refuse, now)?;
    let begin = async {
        let another = Arc::new(LedgerBook::unread(beside::ledger::resolve(place)));
        let kept = another.locked().set_aside(now)?;
        let ledger = another.clone();
        let begun = engine.write_freely(move |session| {
            let ledger = ledger.clone();
            Box::pin(async move {
                ledger.begin_alone(session).await?;
                let id = ledger::known(session, ledger.head()).await?.id;
                begin_ledger(session, &ledger, id, now).await
            })
        });
        begun.await?;
        let fault = another.locked().fault();
        fault.map_or(Ok(kept), |fault| Err(StoreFailed::Ledger(fault)))
    };
    let begun = runtime::wait(begin).map_err(|error| server.unusable(error))?;
    begun.map_err(|failed| server.failed(failed))
}
