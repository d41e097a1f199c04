//! Transactions that write: begun, carried out, committed, and begun again where the connection is lost.
//!
//! Promise: work is carried out once. Where the answer to a COMMIT is lost, the server is asked what
//! became of that transaction before anything is done again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::failure::Undone;
use super::pool::Pool;
use super::session::{Begin, Session, Step, status_of, was_committed};
use crate::clock;
use crate::clock::Instant;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::place::WriterActivity;

/// So long a server that is away is waited for, before whoever asked is told.
const PATIENCE: Duration = Duration::from_mins(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Who carries transactions out.
pub(super) struct Writing {
    pool: Pool,
    /// Counts on whenever some work begins and when it is done.
    begun: AtomicU64,
    done: AtomicU64,
    /// How long each took, since that was last asked.
    times: Mutex<Vec<Duration>>,
}

/// Where nobody asks for them, no more times are kept.
const TIMES_MAX: usize = 20_000;

impl Writing {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, begun: AtomicU64::new(0), done: AtomicU64::new(0), times: Mutex::default() }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn activity(&self) -> WriterActivity {
        let done = self.done.load(Ordering::Relaxed);
        let is_working = self.begun.load(Ordering::Relaxed) > done;
        if is_working { WriterActivity::Working { done } } else { WriterActivity::Idle { done } }
    }

    /// Carries `work` out in a transaction. `Ok` means committed. It is carried out anew where the
    /// connection was lost before the commit.
    pub(super) async fn write<T>(
        &self,
        work: impl for<'s> Fn(&'s Session) -> Step<'s, T> + Send + Sync,
    ) -> Result<T, Undone> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let done = self.write_until_done(work).await;
        self.done.fetch_add(1, Ordering::Relaxed);
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() < TIMES_MAX {
            times.push(begun.elapsed());
        }
        done
    }

    async fn wait(&self, pauses: &mut Pauses, why: &str) -> Result<(), Undone> {
        self.pool.note_cut_off();
        pauses.wait(why).await
    }

    /// Takes how long each transaction took since the last call.
    pub(super) fn take_times(&self) -> Vec<Duration> {
        std::mem::take(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers by one look, which cannot write. It is looked anew where the connection was lost.
    pub(super) async fn look<T>(
        &self,
        look: impl for<'s> Fn(&'s Session) -> Step<'s, T> + Send + Sync,
    ) -> Result<T, Undone> {
        let mut pauses = Pauses::begin();
        loop {
            match self.pool.look(&look).await {
                Err(Undone::Lost(why)) => self.wait(&mut pauses, &why).await?,
                found => return found,
            }
        }
    }

    async fn write_until_done<T>(
        &self,
        work: impl for<'s> Fn(&'s Session) -> Step<'s, T> + Send + Sync,
    ) -> Result<T, Undone> {
        let mut pauses = Pauses::begin();
        loop {
            match self.attempt(&work).await {
                Err(Undone::Lost(why)) => self.wait(&mut pauses, &why).await?,
                done => return done,
            }
        }
    }

    async fn attempt<T>(
        &self,
        work: &(impl for<'s> Fn(&'s Session) -> Step<'s, T> + Send + Sync),
    ) -> Result<T, Undone> {
        let session = self.pool.begin(Begin::Write).await?;
        let done = match work(&session).await {
            Ok(done) => done,
            Err(undone) => {
                if !matches!(undone, Undone::Lost(_)) {
                    session.rollback().await;
                }
                return Err(undone);
            }
        };
        let number = session.number();
        match session.commit().await {
            Err(Undone::Lost(why)) => match number {
                Some(number) if self.became_of(&number).await? == Fate::Committed => Ok(done),
                _ => Err(Undone::Lost(why)),
            },
            committed => committed.map(|()| done),
        }
    }

    /// Asks what became of a transaction whose COMMIT was sent and not answered.
    async fn became_of(&self, number: &str) -> Result<Fate, Undone> {
        let mut pauses = Pauses::begin();
        loop {
            match self.ask_after(number).await {
                Ok(Fate::UnderWay) => pauses.wait("a commit is still under way").await?,
                Err(Undone::Lost(why)) => self.wait(&mut pauses, &why).await?,
                told => return told,
            }
        }
    }

    async fn ask_after(&self, number: &str) -> Result<Fate, Undone> {
        let connection = self.pool.connection().await?;
        let told = match connection.simple_query(&status_of(number)).await.map_err(Undone::from) {
            // A number that the server has not come to yet is of another, which has gone.
            Err(Undone::Failed(_)) => return Ok(Fate::TakenBack),
            told => told?,
        };
        let is_under_way = told.iter().any(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0) == Some("in progress"),
            _ => false,
        });
        Ok(match is_under_way {
            true => Fate::UnderWay,
            false if was_committed(&told) => Fate::Committed,
            false => Fate::TakenBack,
        })
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Committed,
    /// Or not known to the server any more, which is of those that were not.
    TakenBack,
    UnderWay,
}

/// Growing pauses while the server is away.
struct Pauses {
    begun: Instant,
    next: Duration,
}

impl Pauses {
    fn begin() -> Self {
        Self { begun: Instant::now(), next: FIRST_PAUSE }
    }

    /// Waits, unless it has waited for as long as it may.
    async fn wait(&mut self, why: &str) -> Result<(), Undone> {
        if self.begun.elapsed() + self.next > PATIENCE {
            let seconds = PATIENCE.as_secs();
            let why =
                format!("the database has not answered for {seconds} seconds ({why}); it is tried again");
            return Err(Undone::Failed(StoreFailed::Busy(why)));
        }
        if self.next == FIRST_PAUSE {
            tracing::warn!("the database is away ({why}); it is tried again with growing pauses");
        }
        clock::sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
