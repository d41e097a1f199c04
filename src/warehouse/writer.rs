//! The one thread that writes, and the handle through which everyone else does.
//!
//! Work that waits is committed together: each piece in a savepoint of its own, all of them
//! in one transaction, and nobody is told that it is stored before the commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::InterruptHandle;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::analyst_tables::AnalystTables;
use super::failure::OpenFailed;
use super::failure::StoreFailed;
use super::open;
use super::open::OtherServer;
use super::open::Place;

/// Pieces of work that may wait; further senders wait for room.
const QUEUE_MAX: usize = 16;

/// Pieces of work in one commit.
const GROUP_MAX: usize = 64;

/// The warehouse, open for writing. Dropping the last handle ends the thread.
pub struct Warehouse {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    interrupt: InterruptHandle,
    path: PathBuf,
    is_abandoned: AtomicBool,
    turns: Arc<AtomicU64>,
    analyst_tables: Arc<AnalystTables>,
}

enum Job {
    /// Shares a transaction with others that wait.
    Grouped(GroupedWork),
    /// Has the connection to itself.
    Alone(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// Is given the connection, or why there is none to be had.
type GroupedWork = Box<dyn FnOnce(Result<&Connection, StoreFailed>) -> GroupedDone + Send>;

struct GroupedDone {
    worked: bool,
    /// Tells the sender how it ended, once the commit is known.
    acknowledge: Box<dyn FnOnce(Result<(), StoreFailed>) + Send>,
}

impl Warehouse {
    pub fn open(place: &Place, other_server: OtherServer) -> Result<Self, OpenFailed> {
        let connection = open::open_writer(place, other_server)?;
        let identity = open::identity(&place.path);
        let interrupt = connection.get_interrupt_handle();
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let path = place.path.clone();
        let turns = Arc::new(AtomicU64::new(0));
        let writer = Writer { connection, path: path.clone(), identity, turns: turns.clone() };
        let thread = std::thread::Builder::new()
            .name("warehouse".to_owned())
            .spawn(move || writer.work(queue))
            .map_err(|source| OpenFailed::Io { path: path.clone(), source })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            interrupt,
            path,
            is_abandoned: AtomicBool::new(false),
            turns,
            analyst_tables: place.analyst_tables.clone(),
        })
    }

    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// What each page's transaction has to keep up.
    pub fn analyst_tables(&self) -> Arc<AnalystTables> {
        self.analyst_tables.clone()
    }

    /// Runs `work` in the transaction of a group. `Ok` means committed and on the disk.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreFailed>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreFailed> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Job::Grouped(Box::new(move |connection| {
            let result = connection.and_then(work);
            GroupedDone {
                worked: result.is_ok(),
                acknowledge: Box::new(move |committed| {
                    // A sender that no longer waits has been cancelled; the data is stored all the same.
                    let _ = reply.send(committed.and(result));
                }),
            }
        }));
        self.send(job).await?;
        answer.await.map_err(|_| StoreFailed::WriterGone)?
    }

    /// Runs `work` with the connection to itself and outside any transaction.
    pub async fn alone<T, F>(&self, work: F) -> Result<T, StoreFailed>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreFailed> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Job::Alone(Box::new(move |connection| {
            let _ = reply.send(work(connection));
        }));
        self.send(job).await?;
        answer.await.map_err(|_| StoreFailed::WriterGone)?
    }

    /// Counts on whenever the thread begins some work and when it has done it: odd while it works.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Stops a statement that is running, such as a VACUUM that a shutdown cannot wait for.
    pub fn interrupt(&self) {
        self.interrupt.interrupt();
    }

    /// The process is about to end and cannot wait for the thread. What is committed stays;
    /// what is not, SQLite takes back at the next open.
    pub fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
        self.interrupt.interrupt();
    }

    async fn send(&self, job: Job) -> Result<(), StoreFailed> {
        let jobs = self.jobs.as_ref().ok_or(StoreFailed::WriterGone)?;
        jobs.send(job).await.map_err(|_| StoreFailed::WriterGone)
    }
}

impl Drop for Warehouse {
    fn drop(&mut self) {
        self.jobs.take();
        if self.is_abandoned.load(Ordering::Relaxed) {
            return;
        }
        if let Some(thread) = self.thread.take() {
            // A panic of the writer has been reported as `WriterGone` to whoever waited.
            let _ = thread.join();
        }
    }
}

struct Writer {
    connection: Connection,
    path: PathBuf,
    identity: Option<(u64, u64)>,
    turns: Arc<AtomicU64>,
}

impl Writer {
    fn work(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut group = Vec::new();
        while queue.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            self.turns.fetch_add(1, Ordering::Relaxed);
            let mut jobs = std::mem::take(&mut group).into_iter().peekable();
            while let Some(job) = jobs.next() {
                match job {
                    Job::Alone(work) => work(&mut self.connection),
                    Job::Grouped(first) => {
                        let mut works = vec![first];
                        while let Some(Job::Grouped(work)) =
                            jobs.next_if(|job| matches!(job, Job::Grouped(_)))
                        {
                            works.push(work);
                        }
                        self.commit_together(works);
                    }
                }
            }
            self.turns.fetch_add(1, Ordering::Relaxed);
        }
        // The last connection to close a WAL file moves it into the database.
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!("closing the warehouse: {error}");
        }
    }

    fn commit_together(&self, works: Vec<GroupedWork>) {
        let mut done = Vec::with_capacity(works.len());
        let committed = self.run_group(works, &mut done);
        for one in done {
            (one.acknowledge)(committed.clone());
        }
    }

    fn run_group(&self, works: Vec<GroupedWork>, done: &mut Vec<GroupedDone>) -> Result<(), StoreFailed> {
        let connection = &self.connection;
        let mut usable = connection.execute_batch("BEGIN IMMEDIATE").map_err(StoreFailed::from);
        for work in works {
            let begun = usable.clone().and_then(|()| Ok(connection.execute_batch("SAVEPOINT piece")?));
            let one = work(begun.clone().map(|()| connection));
            let end = if one.worked { "RELEASE piece" } else { "ROLLBACK TO piece; RELEASE piece" };
            done.push(one);
            usable = match begun {
                Err(error) => Err(error),
                // SQLite has taken back the whole transaction, as it does when the disk is full.
                Ok(()) if connection.is_autocommit() => Err(StoreFailed::DiskFull),
                Ok(()) => connection.execute_batch(end).map_err(StoreFailed::from),
            };
        }
        usable = usable.and_then(|()| Ok(connection.execute_batch("COMMIT")?));
        if let Err(error) = usable {
            return self.abandon(error);
        }
        // Writes into a file that was removed or replaced succeed, and are lost.
        if open::identity(&self.path) != self.identity {
            return Err(StoreFailed::Replaced);
        }
        Ok(())
    }

    fn abandon(&self, error: StoreFailed) -> Result<(), StoreFailed> {
        if !self.connection.is_autocommit() {
            // What is left to do when a rollback fails is what SQLite does at the next open.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        Err(error)
    }
}
