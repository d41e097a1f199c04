//! Rewrites the tables from which somebody was purged, so that their files keep no bytes of it.
//!
//! Promise: `scrubbed_at` is set once every such table has another file, which was begun when nobody could see any
//! more what was deleted: a table that is written anew takes along whatever an old snapshot can see. Absent on
//! purpose: the write-ahead log, replicas and backups, which keep what was purged for as long as the server is told to.

use std::sync::Arc;
use std::time::Duration;

use super::failure::Undone;
use super::open_warehouse::Engine;
use super::pool::Pool;
use super::runtime;
use super::session::{Begin, Session};
use crate::clock;
use crate::clock::Instant;
use crate::plan::Timestamp;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::place::Server;
use crate::warehouse::purge::{Scrub, ScrubWaits, Scrubbed, ScrubbedBy};

/// So long those are waited for who can see what was purged: an analyst's query may run for 15 minutes.
const PATIENCE: Duration = Duration::from_mins(20);
/// So long by whoever has something else to do.
const PATIENCE_IN_A_CYCLE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// For a table that somebody reads: whoever comes later waits behind whoever waits here.
const LOCK_TIMEOUT: &str = "10s";

/// Removes the last bytes of purged patients from the files of the tables. It takes no right to write, and may run
/// while others pull.
pub(in crate::warehouse) fn scrub(
    server: &Arc<Server>,
    clock: fn() -> Timestamp,
) -> Result<Scrub, OpenFailed> {
    let scrubbed = async {
        let pool = Pool::new(server)?;
        super::open::expect_schema(&pool).await?;
        let scrub = Rewrite { pool: &pool, patience: PATIENCE };
        scrub.run(clock).await.map_err(|undone| server.failed(undone.into_failure()))
    };
    runtime::wait(scrubbed).map_err(|error| server.unusable(error))?
}

impl Engine {
    pub(in crate::warehouse) async fn scrub(&self, clock: fn() -> Timestamp) -> Result<Scrub, StoreFailed> {
        let scrub = Rewrite { pool: self.pool(), patience: PATIENCE_IN_A_CYCLE };
        scrub.run(clock).await.map_err(Undone::into_failure)
    }
}

struct Rewrite<'p> {
    pool: &'p Pool,
    patience: Duration,
}

/// A table, or a part of one.
struct Table {
    /// Qualified and quoted.
    name: String,
    may_rewrite: bool,
    /// SQL that says whose rows are in it.
    holds: Option<String>,
}

impl Rewrite<'_> {
    async fn run(&self, clock: fn() -> Timestamp) -> Result<Scrub, Undone> {
        let waiting = self.pool.look(|session| Box::pin(waiting(session))).await?;
        if waiting.ids.is_empty() {
            return Ok(Scrub::NothingToDo);
        }
        let persons = waiting.persons.clone();
        let tables =
            self.pool.look(|session| Box::pin(async move { tables_of(session, &persons).await })).await?;
        if tables.iter().any(|table| !table.may_rewrite) {
            return Ok(Scrub::Waits(ScrubWaits::Owner));
        }
        if let Some(by) = self.wait_for_older_snapshots().await? {
            return Ok(Scrub::Waits(ScrubWaits::Snapshot(by)));
        }
        for table in &tables {
            match self.rewrite(table).await {
                Err(Undone::Lost(why)) => return Ok(Scrub::Waits(ScrubWaits::Table(why))),
                done => done?,
            }
        }
        let session = self.pool.begin(Begin::Write).await?;
        let purges = note(&session, waiting.ids, clock()).await?;
        session.commit().await?;
        Ok(Scrub::Done(Scrubbed { purges, by: ScrubbedBy::Vacuum, pages: 0 }))
    }

    /// Waits until nobody can see any more what was deleted before now. Returns who still can.
    async fn wait_for_older_snapshots(&self) -> Result<Option<String>, Undone> {
        let session = self.pool.begin(Begin::Write).await?;
        let horizon = session.row("SELECT pg_current_xact_id()::xid::text", &[]).await?;
        let horizon: String = horizon.try_get(0)?;
        session.commit().await?;
        let begun = Instant::now();
        let mut is_told = false;
        loop {
            let horizon = horizon.clone();
            let seen = self.pool.look(|session| {
                Box::pin(async move {
                    let statement = include_str!("../../../schema/postgres/older_snapshots.sql");
                    let seen = session.row_or_none(statement, &[&horizon.as_str()]).await?;
                    Ok(seen.map(|row| row.try_get::<_, String>(0)).transpose()?)
                })
            });
            let Some(by) = seen.await? else { return Ok(None) };
            if begun.elapsed() >= self.patience {
                return Ok(Some(by));
            }
            if !is_told {
                tracing::info!("{by} can still see what was purged; its end is waited for");
                is_told = true;
            }
            clock::sleep(LOOK_AGAIN).await;
        }
    }

    /// Writes a table anew, with its indexes, and takes its statistics again, which hold values of rows.
    async fn rewrite(&self, table: &Table) -> Result<(), Undone> {
        let before = self.file_of(&table.name).await?;
        let connection = self.pool.connection().await?;
        // Through a pooler it would be set for whoever is lent the connection next.
        if self.pool.server().prepared {
            let set = format!("SET lock_timeout = '{LOCK_TIMEOUT}'; SET statement_timeout = 0");
            connection.batch_execute(&set).await?;
        }
        let rewritten = connection.batch_execute(&format!("VACUUM (FULL, ANALYZE) {}", table.name)).await;
        drop(deadpool_postgres::Object::take(connection));
        rewritten?;
        // To whom a table does not belong it is skipped without an error.
        if self.file_of(&table.name).await? == before {
            let why = format!("{} was not written anew by VACUUM FULL", table.name);
            return Err(Undone::Failed(StoreFailed::Engine(why)));
        }
        Ok(())
    }

    async fn file_of(&self, table: &str) -> Result<Option<String>, Undone> {
        let table = table.to_owned();
        let look = self.pool.look(|session| {
            Box::pin(async move {
                let statement = "SELECT pg_relation_filenode($1::text::regclass)::text";
                Ok(session.row(statement, &[&table.as_str()]).await?.try_get(0)?)
            })
        });
        look.await
    }
}

/// The purges whose bytes are not known to be gone.
struct Waiting {
    ids: Vec<i64>,
    persons: Vec<String>,
}

async fn waiting(session: &Session) -> Result<Waiting, Undone> {
    let rows = session.rows("SELECT id, person_id FROM purge_log WHERE scrubbed_at IS NULL", &[]).await?;
    let mut waiting = Waiting { ids: Vec::new(), persons: Vec::new() };
    for row in rows {
        waiting.ids.push(row.try_get(0)?);
        waiting.persons.push(row.try_get(1)?);
    }
    Ok(waiting)
}

/// Returns the tables in which these patients may have had rows, the smallest first.
async fn tables_of(session: &Session, persons: &[String]) -> Result<Vec<Table>, Undone> {
    let persons: Vec<&str> = persons.iter().map(String::as_str).collect();
    let mut tables = Vec::new();
    for row in session.rows(include_str!("../../../schema/postgres/scrub_tables.sql"), &[]).await? {
        let table = Table {
            name: row.try_get("name")?,
            may_rewrite: row.try_get("may_rewrite")?,
            holds: row.try_get("holds")?,
        };
        let is_concerned = match &table.holds {
            None => true,
            Some(holds) => {
                let statement = format!(
                    "SELECT EXISTS (SELECT FROM unnest($1::text[]) AS one (person_id) WHERE {holds})"
                );
                session.row(&statement, &[&persons]).await?.try_get(0)?
            }
        };
        if is_concerned {
            tables.push(table);
        }
    }
    Ok(tables)
}

async fn note(session: &Session, ids: Vec<i64>, now: Timestamp) -> Result<u64, Undone> {
    let statement = "UPDATE purge_log SET scrubbed_at = $2, scrubbed_by = $3 WHERE id = ANY($1)";
    session.execute(statement, &[&ids, &now, &ScrubbedBy::Vacuum.as_str()]).await
}
