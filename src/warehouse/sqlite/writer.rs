//! The one thread that writes, and the handle through which everyone else does.
//!
//! Work that waits is committed together, in one transaction, and nobody is told that it is
//! stored before the commit. Between pieces of work, and while there are none, it builds on the
//! analysts' tables that are not whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(test)]
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, InterruptHandle};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::analyst_tables::AnalystTables;
use super::failure::Undone;
use super::open;
#[cfg(test)]
use crate::clock::{self, Instant};
use crate::plan::Timestamp;
#[cfg(test)]
use crate::simulation::stage;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::place::{FileIdentity, WriterActivity};
use crate::warehouse::pull::Fenced;

/// Pieces of work that may wait; further senders wait for room.
const QUEUE_MAX: usize = 64;

/// Pieces of work in one commit.
const GROUP_MAX: usize = 64;

/// The thread that writes, as everyone else holds it. Dropped, the thread ends.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    desk: Desk,
    interrupt: InterruptHandle,
    path: PathBuf,
    is_abandoned: AtomicBool,
    turns: Arc<AtomicU64>,
}

/// Where the work is done.
enum Desk {
    Thread(Option<JoinHandle<()>>),
    /// In a simulation there is no other thread: whoever waits for work does all that waits with it.
    #[cfg(test)]
    Shared(Box<Mutex<SharedDesk>>),
}

#[cfg(test)]
struct SharedDesk {
    /// `None` once it is cleared.
    work: Option<(WriterThread, mpsc::Receiver<Job>)>,
    disk_is_busy_until: Instant,
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
    result: Result<T, Undone>,
    reply: oneshot::Sender<(F, Result<T, Undone>)>,
}

impl<T, F> Piece for Work<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> Result<T, Undone> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.result = (self.run)(connection);
        self.result.is_ok()
    }

    fn acknowledge(self: Box<Self>, committed: Result<(), StoreFailed>) {
        let Self { run, result, reply } = *self;
        // A sender that no longer waits has been cancelled; the data is stored all the same.
        let _ = reply.send((run, committed.map_err(Undone::Failed).and(result)));
    }
}

impl Writer {
    /// Hands the connection to a thread of its own.
    pub(super) fn start(
        connection: Connection,
        path: &Path,
        analyst_tables: Arc<AnalystTables>,
        now: Timestamp,
    ) -> Result<Self, OpenFailed> {
        let identity = open::identity(path);
        let interrupt = connection.get_interrupt_handle();
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let turns = Arc::new(AtomicU64::new(0));
        let thread = WriterThread {
            connection,
            path: path.to_owned(),
            identity,
            turns: turns.clone(),
            analyst_tables,
            opened_at: now,
        };
        let desk =
            Desk::set_up(thread, queue).map_err(|source| OpenFailed::Io { path: path.to_owned(), source })?;
        Ok(Self {
            jobs: Some(jobs),
            desk,
            interrupt,
            path: path.to_owned(),
            is_abandoned: AtomicBool::new(false),
            turns,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` in the transaction of a group. `Ok` means committed and on the disk.
    ///
    /// Where a piece beside it fails, the transaction is taken back and `work` is run once more.
    pub(super) async fn write<T, F>(&self, mut work: F) -> Result<T, StoreFailed>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, StoreFailed> + Send + 'static,
    {
        match self.run(move |connection| Ok(work(connection)?)).await {
            Ok(done) => Ok(done),
            Err(Undone::Failed(failed)) => Err(failed),
            Err(Undone::Superseded) => Err(StoreFailed::Engine("a pull was superseded".to_owned())),
        }
    }

    /// Runs `work`, a move of a pull, as [`write`](Self::write) does.
    pub(super) async fn write_fenced<T, F>(&self, work: F) -> Result<Fenced<T>, StoreFailed>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Undone> + Send + 'static,
    {
        match self.run(work).await {
            Ok(done) => Ok(Fenced::Kept(done)),
            Err(Undone::Superseded) => Ok(Fenced::Superseded),
            Err(Undone::Failed(failed)) => Err(failed),
        }
    }

    async fn run<T, F>(&self, work: F) -> Result<T, Undone>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Undone> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let piece = Work { run: work, result: Err(StoreFailed::WriterGone.into()), reply };
        self.send(Job::Grouped(Box::new(piece))).await?;
        // What the work holds is freed here, and not by the one thread that writes.
        let (_, result) = answer.await.map_err(|_| StoreFailed::WriterGone)?;
        result
    }

    /// Runs `work` with the connection to itself and outside any transaction.
    pub(super) async fn alone<T, F>(&self, work: F) -> Result<T, StoreFailed>
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

    pub(super) fn activity(&self) -> WriterActivity {
        // Counts on whenever the thread begins some work and when it has done it.
        let done = self.turns.load(Ordering::Relaxed);
        if done % 2 == 1 { WriterActivity::Working { done } } else { WriterActivity::Idle { done } }
    }

    /// Stops a statement that is running, such as a VACUUM that a shutdown cannot wait for.
    pub(super) fn interrupt(&self) {
        self.interrupt.interrupt();
    }

    /// The process is about to end and cannot wait for the thread. What is committed stays;
    /// what is not, SQLite takes back at the next open.
    pub(super) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
        self.interrupt.interrupt();
    }

    async fn send(&self, job: Job) -> Result<(), StoreFailed> {
        let jobs = self.jobs.as_ref().ok_or(StoreFailed::WriterGone)?;
        jobs.send(job).await.map_err(|_| StoreFailed::WriterGone)?;
        #[cfg(test)]
        self.desk.do_what_waits().await;
        Ok(())
    }
}

impl Desk {
    fn set_up(thread: WriterThread, queue: mpsc::Receiver<Job>) -> std::io::Result<Self> {
        #[cfg(test)]
        if stage::is_set() {
            let shared = SharedDesk { work: Some((thread, queue)), disk_is_busy_until: Instant::now() };
            return Ok(Self::Shared(Box::new(Mutex::new(shared))));
        }
        let builder = std::thread::Builder::new().name("warehouse".to_owned());
        Ok(Self::Thread(Some(builder.spawn(move || thread.work(queue))?)))
    }

    #[cfg(test)]
    async fn do_what_waits(&self) {
        let Self::Shared(shared) = self else { return };
        let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
        // Others get to leave theirs first, so that it shares a commit.
        tokio::task::yield_now().await;
        let busy_until = lock().disk_is_busy_until;
        clock::sleep_until(busy_until).await;
        let SharedDesk { work, disk_is_busy_until } = &mut *lock();
        if let Some((thread, queue)) = work
            && thread.work_off(queue)
        {
            *disk_is_busy_until = Instant::now() + stage::commit_takes();
        }
    }

    /// Returns once everything is in its place.
    fn clear(&mut self) {
        match self {
            Self::Thread(thread) => {
                // A panic of the writer has been reported as `WriterGone` to whoever waited.
                let _ = thread.take().map(JoinHandle::join);
            }
            #[cfg(test)]
            Self::Shared(shared) => {
                let shared = shared.get_mut().unwrap_or_else(PoisonError::into_inner);
                if let Some((mut thread, mut queue)) = shared.work.take() {
                    thread.work_off(&mut queue);
                    thread.settle();
                }
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs.take();
        if !self.is_abandoned.load(Ordering::Relaxed) {
            self.desk.clear();
        }
    }
}

struct WriterThread {
    connection: Connection,
    path: PathBuf,
    identity: Option<FileIdentity>,
    turns: Arc<AtomicU64>,
    analyst_tables: Arc<AnalystTables>,
    opened_at: Timestamp,
}

impl WriterThread {
    fn work(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut left = None;
        loop {
            let is_building = self.analyst_tables.is_building();
            let job = match left.take() {
                None if is_building => match queue.try_recv() {
                    Ok(job) => Some(job),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => break,
                },
                None => match queue.blocking_recv() {
                    Some(job) => Some(job),
                    None => break,
                },
                left => left,
            };
            left = self.turn(job, is_building, &mut queue);
        }
        self.settle();
    }

    /// Does one piece of work, with others that can share its commit. Gives back one that was met and
    /// cannot.
    fn turn(&mut self, job: Option<Job>, is_building: bool, queue: &mut mpsc::Receiver<Job>) -> Option<Job> {
        self.turns.fetch_add(1, Ordering::Relaxed);
        let left = match job {
            Some(Job::Alone(work)) => {
                work(&mut self.connection);
                None
            }
            Some(Job::Grouped(first)) => self.commit_together(first, queue),
            None => None,
        };
        if is_building {
            self.build_on();
        }
        self.turns.fetch_add(1, Ordering::Relaxed);
        left
    }

    /// Does all that waits. Returns whether there was any.
    #[cfg(test)]
    fn work_off(&mut self, queue: &mut mpsc::Receiver<Job>) -> bool {
        let (mut left, mut has_worked) = (None, false);
        while let Some(job) = left.take().or_else(|| queue.try_recv().ok()) {
            let is_building = self.analyst_tables.is_building();
            left = self.turn(Some(job), is_building, queue);
            has_worked = true;
        }
        has_worked
    }

    /// Moves everything into its place, and closes the file.
    fn settle(self) {
        if let Err(error) = open::empty_kept_wal(&self.connection) {
            tracing::warn!("the WAL stays as it is until the next cycle: {error}");
        }
        // The last connection to close a WAL file moves it into the database.
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!("closing the warehouse: {error}");
        }
    }

    /// Builds the analysts' tables on, between pages and while there are none.
    fn build_on(&mut self) {
        if let Err(why) = self.analyst_tables.build_step(&mut self.connection, self.opened_at) {
            tracing::warn!("the analysts' tables are not built to their end ({why}); the next start goes on");
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
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let worked = work(connection);
        if connection.is_autocommit() {
            // SQLite has taken back the whole transaction by itself, as it does when the disk is full.
            return Err(StoreFailed::DiskFull);
        }
        #[cfg(test)]
        stage::beside_a_commit();
        let end = if worked { "COMMIT" } else { "ROLLBACK" };
        if let Err(error) = connection.prepare_cached(end).and_then(|mut end| end.execute([])) {
            // What is left to do when a rollback fails is what SQLite does at the next open.
            let _ = connection.execute_batch("ROLLBACK");
            return Err(error.into());
        }
        #[cfg(test)]
        stage::beside_a_commit();
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
        let path = folder.path().join("warehouse.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL)").unwrap();
        let writer =
            Writer::start(connection, &path, Arc::new(AnalystTables::new(&[])), clock::now()).unwrap();
        // The thread is busy until all three wait, so that they are one group.
        let (all_wait, go_on) = std::sync::mpsc::channel::<()>();
        let busy = writer.alone(move |_| {
            go_on.recv().unwrap();
            Ok(())
        });
        let fails = writer.write_fenced(|connection| {
            insert(connection, "half")?;
            Err::<(), _>(Undone::Superseded)
        });
        let first = writer.write(|connection| insert(connection, "first"));
        let last = writer.write(|connection| insert(connection, "last"));
        let told = async { all_wait.send(()).unwrap() };
        let (_, first, fails, last, ()) = tokio::join!(biased; busy, first, fails, last, told);
        assert!(first.is_ok() && last.is_ok());
        assert!(matches!(fails, Ok(Fenced::Superseded)), "{fails:?}");
        let stored = "SELECT group_concat(name) FROM (SELECT name FROM about WHERE value = '' ORDER BY name)";
        let stored = writer
            .write(|connection| Ok(connection.query_row(stored, [], |row| row.get::<_, String>(0))?))
            .await;
        assert_eq!(stored.unwrap(), "first,last");
    }
}
