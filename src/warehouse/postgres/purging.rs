//! The door's purges: each of them one transaction, which has its line in the ledger before it is committed.
//!
//! Promise: one at a time, since each line names the one before it.

use std::path::PathBuf;
use std::sync::Arc;

use super::ledger::LedgerBook;
use super::operations::Engine;
use super::session::{Session, Step};
use super::{checkpoint, failover, ledger, pulls, purge, purge_log, runtime};
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp};
use crate::warehouse::beside;
use crate::warehouse::beside::ledger::{Found, Known, ToNote, UnknownPurge};
use crate::warehouse::beside::purge_requests::Requests;
use crate::warehouse::failure::{LedgerFault, OpenFailed, StoreFailed};
use crate::warehouse::place::{OtherServer, Place, Server};
use crate::warehouse::pull::{PullCost, PullEnded};
use crate::warehouse::purge::{
    BY_ITSELF, CarriedOut, Erased, Purge, PurgeAnswer, PurgeRequest, PurgedPatient,
};

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
        let noticed = self.write(|session| {
            let history = history.clone();
            Box::pin(async move { failover::notice(session, &history, now).await })
        });
        if let Some(failover) = noticed.await? {
            tracing::warn!("{failover}");
        }
        Ok(())
    }

    /// Reads the ledger, makes it where there is none, and carries out what the warehouse does not know of it, as after
    /// a restore or a failover. The fault of a ledger is no failure of this.
    pub(super) async fn read_ledger(&self, now: Timestamp) -> Result<(), StoreFailed> {
        let known = self.known_purges().await?;
        let found = self.ledger.locked().look(&known);
        let mut carried_out = Vec::new();
        match found {
            Found::Nothing => self.begin_ledger(&self.ledger, known.id, now).await?,
            Found::Text(text) => {
                let (unknown, to_note) = self.ledger.locked().take_over(&text, &known);
                if !unknown.is_empty() || to_note.is_news(&known) {
                    carried_out = self.carry_out(unknown, to_note, now).await?;
                }
            }
            Found::Unusable => {}
        }
        if !self.ledger.locked().has_been_read(carried_out) {
            let purged = self.look(|session| Box::pin(ledger::purged_now(session))).await?;
            self.ledger.locked().take_purged(purged);
        }
        Ok(())
    }

    async fn known_purges(&self) -> Result<Known, StoreFailed> {
        let ledger = self.ledger.clone();
        self.look(move |session| {
            let ledger = ledger.clone();
            Box::pin(async move { ledger::known(session, ledger.head()).await })
        })
        .await
    }

    async fn carry_out(
        &self,
        unknown: Vec<UnknownPurge>,
        to_note: ToNote,
        now: Timestamp,
    ) -> Result<Vec<CarriedOut>, StoreFailed> {
        let (ledger, work) = (self.ledger.clone(), Arc::new((unknown, to_note)));
        self.write(move |session| {
            let (ledger, work) = (ledger.clone(), work.clone());
            Box::pin(async move {
                let carried_out = ledger::carry_out(session, &work.0, now).await?;
                ledger.note(session, &work.1).await?;
                Ok(carried_out)
            })
        })
        .await
    }

    /// Makes a ledger with the purges that the warehouse knows.
    async fn begin_ledger(
        &self,
        ledger: &Arc<LedgerBook>,
        id: Option<String>,
        now: Timestamp,
    ) -> Result<(), StoreFailed> {
        let entries = self.look(move |session| Box::pin(ledger::entries_of(session, now))).await?;
        let Some(to_note) = ledger.locked().begin(id, &entries) else { return Ok(()) };
        let (ledger, to_note) = (ledger.clone(), Arc::new(to_note));
        self.write(move |session| {
            let (ledger, to_note) = (ledger.clone(), to_note.clone());
            Box::pin(async move { ledger.note(session, &to_note).await })
        })
        .await
    }

    /// Carries out `work`, which writes a line into the ledger.
    async fn with_ledger<T: Send + 'static>(
        &self,
        now: Timestamp,
        work: impl for<'s> Fn(&'s Session) -> Step<'s, T> + Send + Sync,
    ) -> Result<T, StoreFailed> {
        let _turn = self.ledger_turn.lock().await;
        if self.ledger.locked().is_ahead() {
            // A line was written, and its purge not committed: it is carried out now.
            self.read_ledger(now).await?;
        }
        let done = self.write(work).await?;
        self.ledger.locked().has_committed();
        Ok(done)
    }

    /// Writes that a patient who was purged is pulled again, before it has a row.
    pub(super) async fn note_returned(&self, person: &PersonId, now: Timestamp) -> Result<(), StoreFailed> {
        let (ledger, owner, person) = (self.ledger.clone(), self.owner(), person.clone());
        self.with_ledger(now, move |session| {
            let (ledger, owner, person) = (ledger.clone(), owner.clone(), person.clone());
            Box::pin(async move { ledger.note_returned(session, &owner, &person, now).await })
        })
        .await
    }

    pub(in crate::warehouse) async fn revoke(
        &self,
        ended: PullEnded,
        confirmed_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Erased>, StoreFailed> {
        let (ledger, owner, ended) = (self.ledger.clone(), self.owner(), Arc::new(ended));
        self.with_ledger(now, move |session| {
            let (ledger, owner, ended) = (ledger.clone(), owner.clone(), ended.clone());
            Box::pin(async move {
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
                    ledger.note_purge(session, &owner, &purge, &erased).await?;
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
        })
        .await
    }

    pub(in crate::warehouse) async fn purge(
        &self,
        person: &PersonId,
        reason: PurgeReason,
        by: &str,
        now: Timestamp,
    ) -> Result<Option<PurgedPatient>, StoreFailed> {
        let asked = Arc::new((person.clone(), by.to_owned()));
        let (ledger, owner) = (self.ledger.clone(), self.owner());
        self.with_ledger(now, move |session| {
            let (ledger, owner, asked) = (ledger.clone(), owner.clone(), asked.clone());
            Box::pin(async move {
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
                ledger.note_purge(session, &owner, &purge, &erased).await?;
                Ok(Some(PurgedPatient { name: patient.name().to_owned(), erased }))
            })
        })
        .await
    }

    pub(in crate::warehouse) fn take_purge_requests(&self, now: Timestamp) -> Vec<PurgeRequest> {
        Requests::beside(self.beside()).take(now)
    }

    pub(in crate::warehouse) fn answer_purge_request(
        &self,
        request: &PurgeRequest,
        answer: &PurgeAnswer,
        now: Timestamp,
    ) {
        Requests::beside(self.beside()).answer(request, answer, now);
    }

    pub(in crate::warehouse) async fn unscrubbed(&self) -> Result<Option<Timestamp>, StoreFailed> {
        self.look(|session| Box::pin(purge_log::oldest_unscrubbed(session))).await
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
        let id = engine.known_purges().await?.id;
        engine.begin_ledger(&another, id, now).await?;
        let fault = another.locked().fault();
        fault.map_or(Ok(kept), |fault| Err(StoreFailed::Ledger(fault)))
    };
    let begun = runtime::wait(begin).map_err(|error| server.unusable(error))?;
    begun.map_err(|failed| server.failed(failed))
}
