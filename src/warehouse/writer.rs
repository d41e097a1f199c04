//! The one thread that writes, and the handle through which everyone else does.
//!
//! Work that waits is committed together, in one transaction, and nobody is told that it is
//! stored before the commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use rusqlite::{Connection, InterruptHandle};
use tokio::sync::{mpsc, oneshot};

use super::analyst_tables::AnalystTables;
use super::failure::{OpenFailed, StoreFailed};
use super::open;
use super::open::{OtherServer, Place};

/// Pieces of work that may wait; further senders wait for room.
const QUEUE_MAX: usize = 64;

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
    Grouped(Box<dyn Piece>),
    /// Has the connection to itself.
    Alone(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// Work that shares a transaction, and who waits for it.
trait Piece: Send {
    /// True if it worked. Run again, it gives what the last run gave.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells the sender how it ended, once that is known.
    fn acknowledge(self: Box<Self>, committed: Result<(), StoreFailed>);
}

struct Work<T, F> {
    run: F,
    result: Result<T, StoreFailed>,
    reply: oneshot::Sender<(F, Result<T, StoreFailed>)>,
}

impl<T, F> Piece for Work<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> Result<T, StoreFailed> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.result = (self.run)(connection);
        self.result.is_ok()
    }

    fn acknowledge(self: Box<Self>, committed: Result<(), StoreFailed>) {
        let Self { run, result, reply } = *self;
        // A sender that no longer waits has been cancelled; the data is stored all the same.
        let _ = reply.send((run, committed.and(result)));
    }
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
    ///
    /// Where a piece beside it fails, the transaction is taken back and `work` is run once more.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreFailed>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, StoreFailed> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let piece = Work { run: work, result: Err(StoreFailed::WriterGone), reply };
        self.send(Job::Grouped(Box::new(piece))).await?;
        // What the work holds is freed here, and not by the one thread that writes.
        let (_, result) = answer.await.map_err(|_| StoreFailed::WriterGone)?;
        result
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
        let mut left = None;
        while let Some(job) = left.take().or_else(|| queue.blocking_recv()) {
            self.turns.fetch_add(1, Ordering::Relaxed);
            match job {
                Job::Alone(work) => work(&mut self.connection),
                Job::Grouped(first) => left = self.commit_together(first, &mut queue),
            }
            self.turns.fetch_add(1, Ordering::Relaxed);
        }
        // The last connection to close a WAL file moves it into the database.
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!("closing the warehouse: {error}");
        }
    }

    /// Commits once nothing more waits: each commit waits for the disk. Gives back a job that
    /// was met and cannot share.
    ///
    /// A savepoint for each piece would copy every page that it changes. So there is none: if
    /// one fails, all are taken back, and each has a transaction of its own.
    fn commit_together(&self, first: Box<dyn Piece>, queue: &mut mpsc::Receiver<Job>) -> Option<Job> {
        let mut pieces = Vec::new();
        let mut left = None;
        let done = self.in_transaction(|connection| {
            let mut piece = first;
            loop {
                let worked = piece.run(connection);
                pieces.push(piece);
                if !worked || pieces.len() == GROUP_MAX {
                    return worked;
                }
                match queue.try_recv() {
                    Ok(Job::Grouped(more)) => piece = more,
                    Ok(alone @ Job::Alone(_)) => {
                        left = Some(alone);
                        return true;
                    }
                    Err(_) => return true,
                }
            }
        });
        let apart = pieces.len() > 1 && matches!(done, Ok(Done::TakenBack));
        for mut piece in pieces {
            let done =
                if apart { self.in_transaction(|connection| piece.run(connection)) } else { done.clone() };
            piece.acknowledge(done.map(drop));
        }
        left
    }

    /// Commits what `work` did if it worked.
    fn in_transaction(&self, work: impl FnOnce(&Connection) -> bool) -> Result<Done, StoreFailed> {
        let connection = &self.connection;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let worked = work(connection);
        if connection.is_autocommit() {
            // SQLite has taken back the whole transaction by itself, as it does when the disk is full.
            return Err(StoreFailed::DiskFull);
        }
        if let Err(error) = connection.execute_batch(if worked { "COMMIT" } else { "ROLLBACK" }) {
            // What is left to do when a rollback fails is what SQLite does at the next open.
            let _ = connection.execute_batch("ROLLBACK");
            return Err(error.into());
        }
        // Writes into a file that was removed or replaced succeed, and are lost.
        if open::identity(&self.path) != self.identity {
            return Err(StoreFailed::Replaced);
        }
        Ok(if worked { Done::Committed } else { Done::TakenBack })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Committed,
    TakenBack,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(connection: &Connection, name: &str) -> Result<(), StoreFailed> {
        connection.execute("INSERT INTO about (name, value) VALUES (?1, '')", [name])?;
        Ok(())
    }

    #[tokio::test]
    async fn a_piece_that_fails_takes_none_of_its_group_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            path: folder.path().join("warehouse.db"),
            base_url: "https://x".to_owned(),
            group: None,
            analyst_tables: Arc::default(),
        };
        let warehouse = Warehouse::open(&place, OtherServer::Refuse).unwrap();
        // The thread is busy until all three wait, so that they are one group.
        let (all_wait, go_on) = std::sync::mpsc::channel::<()>();
        let busy = warehouse.alone(move |_| {
            go_on.recv().unwrap();
            Ok(())
        });
        let fails = warehouse.write(|connection| {
            insert(connection, "half")?;
            Err::<(), _>(StoreFailed::Superseded)
        });
        let first = warehouse.write(|connection| insert(connection, "first"));
        let last = warehouse.write(|connection| insert(connection, "last"));
        let told = async { all_wait.send(()).unwrap() };
        let (_, first, fails, last, ()) = tokio::join!(biased; busy, first, fails, last, told);
        assert!(first.is_ok() && last.is_ok());
        assert!(matches!(fails, Err(StoreFailed::Superseded)), "{fails:?}");
        let stored = "SELECT group_concat(name) FROM (SELECT name FROM about WHERE value = '' ORDER BY name)";
        let stored = warehouse
            .write(|connection| Ok(connection.query_row(stored, [], |row| row.get::<_, String>(0))?))
            .await;
        assert_eq!(stored.unwrap(), "first,last");
    }
}
