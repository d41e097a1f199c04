//! The warehouse's door: named operations, each of them one transaction.
//!
//! Promise: `Ok` means committed and on the disk. One fact is one call, and the time comes in as
//! `now`. A page is stored together with the fact that it is stored, or not at all. Absent on
//! purpose: requests, URLs, any decision that `plan` could make; and everything that knows which
//! engine it is, which stays in the engine's folder.
//!
//! [`Warehouse`] is an enum because its engines are a closed set. `conformance` holds them to one
//! meaning.

mod about;
mod beside;
mod changes;
#[cfg(test)]
mod conformance;
mod consents;
mod days;
pub mod extract;
pub(crate) mod failover;
pub(crate) mod failure;
mod looks;
mod medicines;
mod moved;
mod moving;
pub mod page;
pub mod patient;
pub mod place;
mod postgres;
pub mod pull;
pub mod purge;
mod reader;
mod rehearsal;
pub(crate) mod report;
pub(crate) mod rosters;
mod rows;
pub mod service;
mod sharing;
mod snapshot;
mod soundness;
mod sqlite;
pub(crate) mod turn;
pub mod workers_told;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::failover::Failover;
use self::failure::{OpenFailed, RestoreFailed, StoreFailed};
use self::page::{Batch, StoredBatch};
use self::patient::{
    Attention, CycleEnd, CycleTimes, Forgotten, PATIENTS_AT_ONCE, RosterReading, RosterTaken,
};
use self::place::{Close, FileIdentity, Location, OtherServer, Place, Server, WriterActivity};
use self::pull::{Fenced, Lease, PullCost, PullEnded, PullHead, Setback};
use self::purge::{CarriedOut, Erased, PurgeAnswer, PurgeRequest, PurgedPatient, Scrub};
use self::rehearsal::Rehearsal;
use self::report::{Migrated, Preflight, Restored, ServerPreflight, Steps, ViewRefused};
use self::service::{RunReport, RunState, ServiceMemory, ServiceNote};
use crate::plan::checkpoint::Checkpoint;
use crate::plan::completeness::Walk;
use crate::plan::consent::Withdrawals;
use crate::plan::roster::{RosterPatients, RosterVersion};
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp};
use crate::views::AnalystTable;

pub(crate) use self::beside::purge_requests::LeftRequest;
pub use self::moving::move_file;
pub use self::reader::Reader;
pub use self::report::{RowFormat, ViewRun};
pub use self::rows::RowsFailed;
pub(crate) use self::sharing::Sharing;
pub use self::snapshot::Snapshot;
pub use self::sqlite::ServiceLock;
/// For `fuzz/`.
#[doc(hidden)]
pub use self::sqlite::scrub::{page as sqlite_page, walk as sqlite_walk};

/// A warehouse, open for writing or for a rehearsal of it. No other process writes to it
/// until it is closed.
pub enum Warehouse {
    Sqlite(sqlite::Engine),
    Postgres(postgres::Engine),
    /// Answers every write from a reader and changes nothing: what `--dry-run` is run over.
    Rehearsal(Rehearsal),
}

impl Warehouse {
    /// Opens the warehouse for writing, makes it where there is none, and brings it to the
    /// schema of this program.
    ///
    /// Takes as long as a large migration or a WAL left by a crash takes; blocks.
    pub fn open(place: &Place, other_server: OtherServer, now: Timestamp) -> Result<Self, OpenFailed> {
        match &place.location {
            Location::File(_) => sqlite::Engine::open(place, other_server, now).map(Self::Sqlite),
            Location::Server(server) => {
                postgres::Engine::open(place, server, other_server, now).map(Self::Postgres)
            }
        }
    }

    /// Opens what is there to be read, so that everything can be asked and nothing is changed.
    pub fn rehearse(place: &Place, other_server: OtherServer) -> Result<Self, OpenFailed> {
        Rehearsal::open(place, other_server).map(Self::Rehearsal)
    }

    /// Returns whether nothing is changed by what is called.
    pub fn is_rehearsal(&self) -> bool {
        matches!(self, Self::Rehearsal(_))
    }

    /// Lets the warehouse go. Blocks while the last of it is moved into its place, unless others
    /// still hold it.
    pub fn close(self: Arc<Self>, how: Close) {
        match (&*self, how) {
            (Self::Sqlite(engine), Close::Abandon) => engine.abandon(),
            (Self::Postgres(engine), Close::Abandon) => engine.abandon(),
            _ => {}
        }
    }

    /// Returns whether the writer is at work, for a watchdog.
    pub fn activity(&self) -> WriterActivity {
        match self {
            Self::Sqlite(engine) => engine.activity(),
            Self::Postgres(engine) => engine.activity(),
            Self::Rehearsal(_) => WriterActivity::Idle { done: 0 },
        }
    }

    /// Returns the purges that the ledger knew and the file did not, since this was last asked: they
    /// have been carried out.
    pub(crate) fn carried_out(&self) -> Vec<CarriedOut> {
        match self {
            Self::Sqlite(engine) => engine.carried_out(),
            Self::Postgres(engine) => engine.carried_out(),
            Self::Rehearsal(_) => Vec::new(),
        }
    }

    /// Returns when cycles last began and ended well.
    pub async fn cycle_times(&self) -> Result<CycleTimes, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.cycle_times().await,
            Self::Postgres(engine) => engine.cycle_times().await,
            Self::Rehearsal(_) => Ok(CycleTimes::default()),
        }
    }

    /// Begins a cycle: takes the roster over and who it lacks, notes the time, and says of pulls that
    /// a kill cut off that they were.
    pub async fn begin_cycle(
        &self,
        roster: RosterReading,
        now: Timestamp,
    ) -> Result<RosterTaken, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.begin_cycle(roster, now).await,
            Self::Postgres(engine) => engine.begin_cycle(roster, now).await,
            Self::Rehearsal(rehearsal) => rehearsal.begin_cycle(&roster, now),
        }
    }

    /// Shows everybody to `look`, in whatever order the engine keeps them: read in pieces, and not as of one moment. In a
    /// rehearsal they are as the cycle that has begun would have noted them.
    pub async fn visit_patients(&self, mut look: impl FnMut(Checkpoint)) -> Result<(), StoreFailed> {
        let mut last = None;
        loop {
            let piece = match self {
                Self::Sqlite(engine) => engine.patients_after(last, PATIENTS_AT_ONCE).await?,
                Self::Postgres(engine) => engine.patients_after(last, PATIENTS_AT_ONCE).await?,
                Self::Rehearsal(rehearsal) => {
                    rehearsal.everybody().into_iter().for_each(look);
                    return Ok(());
                }
            };
            let is_last = piece.len() < PATIENTS_AT_ONCE;
            last = piece.last().map(|patient| patient.person.clone());
            piece.into_iter().for_each(&mut look);
            if is_last {
                return Ok(());
            }
        }
    }

    /// Ends a cycle: forgets the oldest rows of `pull` beyond its limit, and the rows that have been
    /// marked as deleted for too long. Not one transaction: what is interrupted, the next end does.
    pub async fn end_cycle(&self, end: CycleEnd) -> Result<Forgotten, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.end_cycle(end).await,
            Self::Postgres(engine) => engine.end_cycle(end).await,
            Self::Rehearsal(_) => Ok(Forgotten::default()),
        }
    }

    /// Returns what needs a person, beside the patients.
    pub async fn attention(&self) -> Result<Attention, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.attention().await,
            Self::Postgres(engine) => engine.attention().await,
            Self::Rehearsal(_) => Ok(Attention::default()),
        }
    }

    /// Returns that the server has another history than it had, where nobody was told of it yet, and notes
    /// that somebody is.
    pub(crate) async fn tell_failover(&self) -> Result<Option<Failover>, StoreFailed> {
        match self {
            Self::Sqlite(_) | Self::Rehearsal(_) => Ok(None),
            Self::Postgres(engine) => engine.tell_failover().await,
        }
    }

    /// Keeps what the service is to know after a restart.
    pub async fn remember(&self, note: ServiceNote) -> Result<(), StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.remember(note).await,
            Self::Postgres(engine) => engine.remember(note).await,
            Self::Rehearsal(_) => Ok(()),
        }
    }

    /// Returns what the service was to know after a restart.
    pub async fn recall(&self) -> Result<ServiceMemory, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.recall().await,
            Self::Postgres(engine) => engine.recall().await,
            Self::Rehearsal(_) => Ok(ServiceMemory::default()),
        }
    }

    /// Takes a patient again whose turn is over, as it is now; `None` where it is not known, or another has taken it, or
    /// purged it, since.
    pub async fn claim(&self, person: &PersonId) -> Result<Option<Lease>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.claim(person).await,
            Self::Postgres(engine) => engine.claim(person).await,
            Self::Rehearsal(rehearsal) => rehearsal.claim(person),
        }
    }

    /// Returns the walks of an interrupted pull, the one under way last.
    pub async fn unfinished_walks(&self, person: &PersonId) -> Result<Vec<Walk>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.unfinished_walks(person).await,
            Self::Postgres(engine) => engine.unfinished_walks(person).await,
            Self::Rehearsal(rehearsal) => rehearsal.unfinished_walks(person),
        }
    }

    /// Stores a batch, the marks of what was seen and the progress of the pull, or nothing.
    /// With the last batch the watermark moves as well.
    pub async fn store_page(
        &self,
        head: &PullHead,
        cost: PullCost,
        batch: Batch,
        now: Timestamp,
    ) -> Result<Fenced<StoredBatch>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.store_page(head, cost, batch, now).await,
            Self::Postgres(engine) => engine.store_page(head, cost, batch, now).await,
            Self::Rehearsal(rehearsal) => rehearsal.store_page(head, &batch, now),
        }
    }

    /// Begins an interrupted pull again from its first page: its walks are forgotten.
    pub async fn restart_pull(&self, head: &PullHead) -> Result<Fenced<()>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.restart_pull(head).await,
            Self::Postgres(engine) => engine.restart_pull(head).await,
            Self::Rehearsal(_) => Ok(Fenced::Kept(())),
        }
    }

    /// Notes that a full pull follows for the sake of renamed entries.
    pub async fn note_renamed_full(
        &self,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<Fenced<()>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.note_renamed_full(person, now).await.map(Fenced::Kept),
            Self::Postgres(engine) => engine.note_renamed_full(person, now).await,
            Self::Rehearsal(_) => Ok(Fenced::Kept(())),
        }
    }

    /// Ends a pull that did not finish: its row in `pull` and its patient's checkpoint together.
    pub async fn end_pull(&self, ended: PullEnded, now: Timestamp) -> Result<Fenced<()>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.end_pull(ended, now).await,
            Self::Postgres(engine) => engine.end_pull(ended, now).await,
            Self::Rehearsal(rehearsal) => {
                rehearsal.end_pull(&ended.head.person);
                Ok(Fenced::Kept(()))
            }
        }
    }

    /// Notes what a question about a consent has shown.
    pub async fn note_answer(
        &self,
        person: &PersonId,
        answer: Setback,
        now: Timestamp,
    ) -> Result<Fenced<()>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.note_answer(person, answer, now).await,
            Self::Postgres(engine) => engine.note_answer(person, answer, now).await,
            Self::Rehearsal(_) => Ok(Fenced::Kept(())),
        }
    }

    /// Notes a refusal the moment it arrives: the patient is `refused` until a round has judged it.
    /// The pull stays unfinished until then. Returns its row.
    pub async fn note_refusal(
        &self,
        head: &PullHead,
        cost: PullCost,
        now: Timestamp,
    ) -> Result<Option<i64>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.note_refusal(head, cost, now).await,
            Self::Postgres(engine) => engine.note_refusal(head, cost, now).await,
            Self::Rehearsal(_) => Ok(None),
        }
    }

    /// Returns how many patients have rows, and how many were purged for a withdrawn consent within
    /// the window that counts them together.
    pub(crate) async fn withdrawals(&self, now: Timestamp) -> Result<Withdrawals, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.withdrawals(now).await,
            Self::Postgres(engine) => engine.withdrawals(now).await,
            Self::Rehearsal(rehearsal) => rehearsal.withdrawals(now),
        }
    }

    /// Returns how many patients have rows, and how many were purged for leaving the roster within
    /// the window that counts them together, or for whatever else since `missing_since` and are not listed.
    pub(crate) async fn departures(
        &self,
        missing_since: Timestamp,
        now: Timestamp,
    ) -> Result<Withdrawals, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.departures(missing_since, now).await,
            Self::Postgres(engine) => engine.departures(missing_since, now).await,
            Self::Rehearsal(rehearsal) => rehearsal.departures(missing_since, now),
        }
    }

    /// Returns the active patients with rows that were pulled last, the latest first.
    pub async fn latest_pulled(&self, most: usize) -> Result<Vec<PersonId>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.latest_pulled(most).await,
            Self::Postgres(engine) => engine.latest_pulled(most).await,
            Self::Rehearsal(rehearsal) => rehearsal.latest_pulled(most),
        }
    }

    /// Returns how many patients are refused, and neither purged nor held.
    pub async fn refused(&self) -> Result<u64, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.refused().await,
            Self::Postgres(engine) => engine.refused().await,
            Self::Rehearsal(_) => Ok(0),
        }
    }

    /// Returns every held patient.
    pub async fn held(&self) -> Result<Vec<Lease>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.held().await,
            Self::Postgres(engine) => engine.held().await,
            Self::Rehearsal(rehearsal) => rehearsal.held(),
        }
    }

    /// Removes every row of a patient whose withdrawal is confirmed, logs it, moves the patient to
    /// `revoked` and ends its pull. Without rows there is nothing to log.
    pub async fn revoke(
        &self,
        ended: PullEnded,
        confirmed_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Erased>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.revoke(ended, confirmed_at, now).await,
            Self::Postgres(engine) => engine.revoke(ended, confirmed_at, now).await,
            Self::Rehearsal(rehearsal) => rehearsal.erasable(&ended.head.person),
        }
    }

    /// Removes every row of a patient, logs it with the account it was asked for `by`, and moves the
    /// patient to the state of the reason. `None` where the patient is not known, or, but for an
    /// operator's word, where nothing of it was stored.
    pub async fn purge(
        &self,
        person: &PersonId,
        reason: PurgeReason,
        by: &str,
        now: Timestamp,
    ) -> Result<Option<PurgedPatient>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.purge(person, reason, by, now).await,
            Self::Postgres(engine) => engine.purge(person, reason, by, now).await,
            Self::Rehearsal(rehearsal) => rehearsal.purgeable(person),
        }
    }

    /// Takes the operators' orders that were left while this process holds the warehouse, and those
    /// that no holder before has answered. Each is to be answered.
    pub(crate) fn take_purge_requests(&self, now: Timestamp) -> Vec<PurgeRequest> {
        match self {
            Self::Sqlite(engine) => engine.take_purge_requests(now),
            // A purge waits for nobody there.
            Self::Postgres(_) | Self::Rehearsal(_) => Vec::new(),
        }
    }

    /// Tells the command that has left an order what came of it.
    pub(crate) fn answer_purge_request(&self, request: &PurgeRequest, answer: &PurgeAnswer, now: Timestamp) {
        match self {
            Self::Sqlite(engine) => engine.answer_purge_request(request, answer, now),
            Self::Postgres(_) | Self::Rehearsal(_) => {}
        }
    }

    /// Returns when the oldest purge was made whose last bytes are not gone yet.
    pub async fn unscrubbed(&self) -> Result<Option<Timestamp>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.unscrubbed().await,
            Self::Postgres(engine) => engine.unscrubbed().await,
            Self::Rehearsal(rehearsal) => rehearsal.unscrubbed(),
        }
    }

    /// Removes the last bytes of all purged patients. `clock` is read once they are gone.
    ///
    /// Not a transaction: what is interrupted is begun again by the next scrub.
    pub async fn scrub(&self, clock: fn() -> Timestamp) -> Result<Scrub, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.scrub(clock).await,
            Self::Postgres(engine) => engine.scrub(clock).await,
            Self::Rehearsal(_) => Ok(Scrub::NothingToDo),
        }
    }

    /// Stops a scrub that a shutdown cannot wait for.
    pub fn interrupt(&self) {
        match self {
            Self::Sqlite(engine) => engine.interrupt(),
            Self::Postgres(_) | Self::Rehearsal(_) => {}
        }
    }

    /// Finishes the analysts' tables that are under build, and makes the indexes that were left out
    /// while they were filled for the first time. Pages are stored meanwhile.
    pub async fn settle_views(&self, now: Timestamp) -> Result<(), StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.settle_views(now).await,
            Self::Postgres(_) | Self::Rehearsal(_) => Ok(()),
        }
    }

    /// Builds every analysts' table anew. Returns those that cannot be, and why. `told` hears how
    /// far it has come.
    pub async fn rebuild_views(
        &self,
        now: Timestamp,
        told: impl FnMut(Steps) + Send + 'static,
    ) -> Result<Vec<ViewRefused>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.rebuild_views(now, told).await,
            Self::Postgres(engine) => engine.rebuild_views(now, told).await,
            Self::Rehearsal(_) => Ok(Vec::new()),
        }
    }
}

/// Tells others what the service is doing. Not durable: it is told again within a second.
pub(crate) fn tell_of_service(place: &Place, report: &RunReport) -> std::io::Result<()> {
    sqlite::tell_of_service(place, report)
}

/// Returns whether a `run` of this warehouse is alive, and what it tells of itself.
pub(crate) fn look_for_service(location: &Location) -> RunState {
    sqlite::look_for_service(location.path())
}

/// What `check` wants to know, by where the warehouse is.
pub enum FoundAt {
    File(Preflight),
    Server(ServerPreflight),
}

/// Returns what `check` wants to know. Only looks.
pub fn preflight(place: &Place) -> Result<FoundAt, OpenFailed> {
    match &place.location {
        Location::File(_) => sqlite::preflight(place).map(FoundAt::File),
        Location::Server(server) => postgres::preflight(place, server).map(FoundAt::Server),
    }
}

/// Puts a roster in force, whether or not it was before. Returns the one that it takes the place of.
pub(crate) fn publish_roster(
    server: &Arc<Server>,
    patients: &RosterPatients,
    now: Timestamp,
) -> Result<Option<RosterVersion>, OpenFailed> {
    postgres::publish_roster(server, patients, now)
}

/// Returns why a server's URL cannot be used. Nothing is connected.
pub fn check_server(server: &Server) -> Result<(), String> {
    postgres::check_url(server)
}

/// Makes the schema of a warehouse on a server, and brings it to this program's version. `partitions` is into how many
/// parts tables of resources are divided that are not there yet. With it are made those of the analysts' tables that are
/// new or made from something else.
pub fn migrate(
    server: &Arc<Server>,
    partitions: Option<u32>,
    views: &[AnalystTable],
    now: Timestamp,
) -> Result<Migrated, OpenFailed> {
    postgres::migrate(server, partitions, views, now)
}

/// Returns the statements that [`migrate`] carries out.
pub fn migration_script(schema: &str, partitions: Option<u32>, views: &[AnalystTable]) -> String {
    postgres::migration_script(schema, partitions, views)
}

/// Removes the last bytes of all purged patients from the files of a server's tables. It takes no right to write, and
/// waits for those who can still see what was purged, for up to 20 minutes; blocks.
pub fn scrub_server(server: &Arc<Server>, clock: fn() -> Timestamp) -> Result<Scrub, OpenFailed> {
    postgres::scrub(server, clock)
}

/// Tries to be the one that writes, for a moment.
pub fn try_lock(place: &Place) -> Result<(), OpenFailed> {
    match &place.location {
        Location::File(_) => sqlite::try_lock(place),
        Location::Server(server) => postgres::try_lock(server),
    }
}

/// Puts a backup in the warehouse's place, on which the ledger of purges has been carried out. `told`
/// hears how far the copying has come, and says whether to go on.
pub fn restore(
    place: &Place,
    file: &Path,
    clock: fn() -> Timestamp,
    told: impl FnMut(Steps) -> bool,
) -> Result<Restored, RestoreFailed> {
    match &place.location {
        Location::File(_) => sqlite::restore(place, file, clock, told),
        Location::Server(_) => Err(RestoreFailed::Store(postgres::copied_by_the_server())),
    }
}

/// Begins another ledger in place of one that is lost or damaged. Returns where that is now.
pub fn begin_ledger_anew(place: &Place, now: Timestamp) -> Result<Option<PathBuf>, OpenFailed> {
    match &place.location {
        Location::File(_) => sqlite::begin_ledger_anew(place, now),
        Location::Server(server) => postgres::begin_ledger_anew(place, server, now),
    }
}

/// Tries all views on an empty warehouse, and returns what is wrong with them.
pub fn rehearse_views(views: &[AnalystTable]) -> Result<Vec<ViewRefused>, StoreFailed> {
    sqlite::rehearse_views(views)
}

/// Returns which file the path names now, so that one that was replaced is noticed; `None` where it is none.
pub fn identity(place: &Place) -> Option<FileIdentity> {
    match &place.location {
        Location::File(path) => sqlite::identity(path),
        Location::Server(_) => None,
    }
}

/// Returns the number of the schema that this program writes into a file.
pub fn schema_version() -> i64 {
    sqlite::SCHEMA_VERSION
}

/// Returns the number of the schema that this program writes on a server.
pub fn server_schema_version() -> i64 {
    postgres::SCHEMA_VERSION
}

/// Returns the version of the engine in this program.
pub fn engine_version() -> &'static str {
    sqlite::engine_version()
}
