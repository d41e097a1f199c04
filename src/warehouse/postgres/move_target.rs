//! A schema that takes over the rows of a file.
//!
//! Promise: rows and how far their table has come are one transaction, so that what is cut off goes on where it was.
//! Until everything was read back, a mark keeps everybody from pulling. What PostgreSQL cannot read goes to
//! quarantine, as it does when it is pulled.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use super::cycle_ends::{note_text, noted_text};
use super::failure::Undone;
use super::lease::{WriterLease, expect_held};
use super::move_cells::{MoveColumns, TypedCell};
use super::open::{BASE_URL, MOVING_FROM};
use super::pool::Pool;
use super::server_state::ServerState;
use super::session::{Begin, Session};
use super::stream::each_row;
use super::upserts::{UNREADABLE, is_readable};
use super::values::{Param, counted};
use super::{analyst_tables, runtime, view_build};
use crate::plan::Timestamp;
use crate::plan::identity::KEY_BYTES_MAX;
use crate::plan::row::row_of;
use crate::views::AnalystTable;
use crate::warehouse::about::{EXPIRING_TOLD, LAST_CYCLE, LAST_GOOD_CYCLE, REMOVALS_KNOWN_SINCE};
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::moved::{MovedCell, MovedRows};
use crate::warehouse::place::Server;
use crate::warehouse::report::Moved;

/// In `about`, before the name of a table: how far it has come.
const PROGRESS: &str = "moving:";
/// The rows that went to quarantine beside those that were there.
const REDIRECTED: &str = "redirected";
/// Of `about`: the rest is the file's own.
const KEPT_ABOUT: [&str; 5] = [BASE_URL, LAST_CYCLE, LAST_GOOD_CYCLE, EXPIRING_TOLD, REMOVALS_KNOWN_SINCE];
/// The tables that number their rows.
const NUMBERED: [&str; 3] = ["pull", "purge_log", "cycle"];

pub(in crate::warehouse) struct MoveTarget {
    pool: Pool,
    lease: WriterLease,
    server: Arc<Server>,
}

/// How far a table has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::warehouse) struct TableProgress {
    read_to: i64,
    is_whole: bool,
    /// Rows that are there, and a hash over them, in whatever order.
    pub(in crate::warehouse) rows: u64,
    hash: u128,
    /// Rows that are elsewhere, or that nothing takes.
    elsewhere: u64,
}

impl TableProgress {
    pub(in crate::warehouse) fn is_whole(self) -> bool {
        self.is_whole
    }

    pub(in crate::warehouse) fn read_to(self) -> i64 {
        self.read_to
    }

    pub(in crate::warehouse) fn rows_read(self) -> usize {
        usize::try_from(self.rows + self.elsewhere).unwrap_or(usize::MAX)
    }

    fn add(&mut self, hash: u128) {
        self.rows += 1;
        // In no order of its own.
        self.hash = self.hash.wrapping_add(hash);
    }

    fn written(self) -> String {
        let Self { read_to, is_whole, rows, hash, elsewhere } = self;
        format!("{read_to} {} {rows} {hash} {elsewhere}", u8::from(is_whole))
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut next = || words.next();
        Some(Self {
            read_to: next()?.parse().ok()?,
            is_whole: next()? == "1",
            rows: next()?.parse().ok()?,
            hash: next()?.parse().ok()?,
            elsewhere: next()?.parse().ok()?,
        })
    }
}

impl MoveTarget {
    /// Takes the right to write, and marks the schema as moved into. Refuses one that has patients, but for those of
    /// the same file.
    pub(in crate::warehouse) fn begin(
        server: &Arc<Server>,
        file: &Path,
        as_of: &str,
    ) -> Result<Self, OpenFailed> {
        let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let from = format!("{} as of {as_of}", path.display());
        let begin = async {
            let state = ServerState::look(&Pool::new(server)?).await?;
            let pool = Pool::acting_as(server, &state.owner)?;
            let lease = WriterLease::take(&pool).await?;
            let target = Self { pool, lease, server: server.clone() };
            match target.mark(&from).await {
                Ok(()) => Ok(target),
                Err(undone) => {
                    target.lease.give_back().await;
                    Err(server.failed(undone.into_failure()))
                }
            }
        };
        runtime::wait(begin).map_err(|error| server.unusable(error))?
    }

    async fn mark(&self, from: &str) -> Result<(), Undone> {
        let session = self.transaction().await?;
        let refuse = |why: String| Err(Undone::Failed(StoreFailed::Engine(why)));
        match noted_text(&session, MOVING_FROM).await? {
            Some(marked) if marked == from => {}
            Some(marked) => {
                let schema = &self.server.schema;
                return refuse(format!(
                    "a move from {marked} is not finished, and this is another file, or it has changed since; `DROP SCHEMA {schema} CASCADE` begins anew"
                ));
            }
            None => {
                let is_taken = "SELECT EXISTS (SELECT 1 FROM checkpoint) OR EXISTS (SELECT 1 FROM purge_log)";
                if session.row(is_taken, &[]).await?.try_get(0)? {
                    return refuse(
                        "the schema has patients of its own, and a file is moved into an empty one; name another in warehouse.schema"
                            .to_owned(),
                    );
                }
                note_text(&session, MOVING_FROM, from).await?;
            }
        }
        session.commit().await
    }

    async fn transaction(&self) -> Result<Session, Undone> {
        let session = self.pool.begin(Begin::Write).await?;
        expect_held(&session, &self.lease.owner()).await?;
        Ok(session)
    }

    fn wait<T: Send>(&self, answer: impl Future<Output = Result<T, Undone>> + Send) -> Result<T, OpenFailed> {
        let answer = runtime::wait(answer).map_err(|error| self.server.unusable(error))?;
        answer.map_err(|undone| self.server.failed(undone.into_failure()))
    }

    pub(in crate::warehouse) fn columns(&self, table: &str) -> Result<MoveColumns, OpenFailed> {
        self.wait(async {
            let session = self.pool.begin(Begin::Snapshot).await?;
            let columns = MoveColumns::of(&session, table).await?;
            session.rollback().await;
            Ok(columns)
        })
    }

    pub(in crate::warehouse) fn progress(&self, table: &str) -> Result<TableProgress, OpenFailed> {
        self.wait(async {
            let session = self.pool.begin(Begin::Snapshot).await?;
            let progress = progress(&session, table).await?;
            session.rollback().await;
            Ok(progress)
        })
    }

    /// Stores rows, and how far their table has come.
    pub(in crate::warehouse) fn store(
        &self,
        columns: &MoveColumns,
        rows: MovedRows,
        mut so_far: TableProgress,
    ) -> Result<TableProgress, OpenFailed> {
        (so_far.is_whole, so_far.read_to) = match rows.read_to {
            Some(read_to) => (false, read_to),
            None => (true, so_far.read_to),
        };
        let (mut kept, mut redirected) = (Vec::new(), Vec::new());
        for row in rows.rows {
            let row = typed(columns, row).map_err(|undone| self.server.failed(undone.into_failure()))?;
            match destination(columns, row) {
                Destination::Same(row) => {
                    so_far.add(columns.hash(&row));
                    kept.push(row);
                }
                Destination::Quarantine(row) => {
                    so_far.elsewhere += 1;
                    redirected.push(row);
                }
                Destination::Nowhere => so_far.elsewhere += 1,
            }
        }
        self.wait(async {
            let session = self.transaction().await?;
            if !kept.is_empty() {
                insert(&session, &columns.insert(), &columns.arrays(&kept)).await?;
            }
            if !redirected.is_empty() {
                redirect(&session, redirected).await?;
            }
            note_progress(&session, &columns.table, so_far).await?;
            session.commit().await
        })?;
        Ok(so_far)
    }

    /// Reads everything back, and refuses what is not what the file had.
    pub(in crate::warehouse) fn check(&self, tables: &[&str]) -> Result<(), OpenFailed> {
        let session = self.wait(self.pool.begin(Begin::Snapshot))?;
        let patience = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
        self.wait(session.batch(patience))?;
        for table in tables.iter().filter(|table| **table != "about") {
            let mut expected = self.wait(progress(&session, table))?;
            if *table == "quarantine" {
                let redirected = self.wait(progress(&session, REDIRECTED))?;
                expected.rows += redirected.rows;
                expected.hash = expected.hash.wrapping_add(redirected.hash);
            }
            let columns = self.wait(MoveColumns::of(&session, table))?;
            let names: Vec<String> = columns.names().map(|name| format!("\"{name}\"")).collect();
            let mut found = TableProgress::default();
            let select = format!("SELECT {} FROM \"{table}\"", names.join(", "));
            each_row::<StoreFailed>(&session, &select, &[], |row| {
                let cells = (0..names.len()).map(|at| TypedCell::stored(row, at));
                let cells = cells.collect::<Result<Vec<_>, _>>().map_err(Undone::into_failure)?;
                found.add(columns.hash(&cells));
                Ok(())
            })
            .map_err(|failed| self.server.failed(failed))?;
            if (found.rows, found.hash) != (expected.rows, expected.hash) {
                let schema = &self.server.schema;
                return Err(self.server.unusable(format!(
                    "{table} has {} rows, and {} were moved, or they are others; nothing pulls into it. `DROP SCHEMA {schema} CASCADE` begins anew",
                    found.rows, expected.rows
                )));
            }
        }
        self.wait(async {
            session.rollback().await;
            Ok(())
        })
    }

    /// Makes the analysts' tables, goes on counting where the file has come to, and takes the mark away.
    pub(in crate::warehouse) fn finish(
        &self,
        views: &[AnalystTable],
        now: Timestamp,
        moved: &mut Moved,
    ) -> Result<(), OpenFailed> {
        let tables = analyst_tables::AnalystTables::new(views);
        let owner = self.lease.owner();
        let build = view_build::Build { pool: &self.pool, owner: &owner, tables: &tables, now };
        moved.refused = self.wait(async { build.run(view_build::Which::All, &mut |_| ()).await })?;
        self.wait(async {
            let session = self.transaction().await?;
            for table in NUMBERED {
                let go_on = format!(
                    "SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT coalesce(max(id), 0) + 1 FROM {table}), false)"
                );
                session.rows(&go_on, &[]).await?;
            }
            let counts = "SELECT (SELECT count(*) FROM checkpoint), (SELECT count(*) FROM purge_log)";
            let counts = session.row(counts, &[]).await?;
            moved.patients = counted(counts.try_get(0)?);
            moved.purges = counted(counts.try_get(1)?);
            moved.unreadable = progress(&session, REDIRECTED).await?.rows;
            let marks = "DELETE FROM about WHERE name = $1 OR starts_with(name, $2)";
            session.execute(marks, &[&MOVING_FROM, &PROGRESS]).await?;
            session.commit().await
        })
    }
}

impl Drop for MoveTarget {
    fn drop(&mut self) {
        // Whoever cannot be told finds the row free once it has run out.
        let _ = runtime::wait(self.lease.give_back());
    }
}

async fn progress(session: &Session, table: &str) -> Result<TableProgress, Undone> {
    let noted = noted_text(session, &format!("{PROGRESS}{table}")).await?;
    let damaged = || StoreFailed::Damaged("how far the move has come cannot be read".to_owned());
    match noted {
        Some(text) => Ok(TableProgress::read(&text).ok_or_else(damaged)?),
        None => Ok(TableProgress::default()),
    }
}

async fn note_progress(session: &Session, table: &str, so_far: TableProgress) -> Result<(), Undone> {
    note_text(session, &format!("{PROGRESS}{table}"), &so_far.written()).await
}

async fn insert(session: &Session, statement: &str, arrays: &[Box<dyn Param>]) -> Result<(), Undone> {
    let params: Vec<&dyn Param> = arrays.iter().map(|array| &**array).collect();
    session.execute(statement, &params).await.map(drop)
}

fn typed(columns: &MoveColumns, row: Vec<MovedCell>) -> Result<Vec<TypedCell>, Undone> {
    let cells = columns.columns.iter().zip(row).map(|((name, kind), cell)| {
        let other = || StoreFailed::Data(format!("{}.{name} holds what its column cannot", columns.table));
        TypedCell::of(kind, cell).ok_or_else(|| other().into())
    });
    cells.collect()
}

/// Where a row goes.
enum Destination {
    Same(Vec<TypedCell>),
    Quarantine(BTreeMap<&'static str, TypedCell>),
    Nowhere,
}

fn destination(columns: &MoveColumns, mut row: Vec<TypedCell>) -> Destination {
    let cell = |row: &[TypedCell], name: &str| columns.place(name).map(|at| row[at].clone());
    let text = |row: &[TypedCell], name: &str| cell(row, name)?.text().map(str::to_owned);
    if columns.table == "about" {
        let is_kept = text(&row, "name").is_some_and(|name| KEPT_ABOUT.contains(&name.as_str()));
        return if is_kept { Destination::Same(row) } else { Destination::Nowhere };
    }
    let has_nul = row.iter().any(|cell| cell.text().is_some_and(|text| text.contains('\0')));
    let key = text(&row, "key");
    let is_long = key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX);
    match text(&row, "resource").filter(|_| columns.place("content_hash").is_some()) {
        Some(resource) if has_nul || is_long || !is_readable(&resource) => {
            // A former version that nobody can read is no entry that could come again.
            if columns.table == "history" {
                return Destination::Nowhere;
            }
            let key = shortened(&key.unwrap_or_default());
            let identity = row_of(&key, &resource)
                .map(|row| row.quarantined(UNREADABLE).identity().hash().cast_signed());
            let held = |name: &str| cell(&row, name).unwrap_or(TypedCell::Null);
            Destination::Quarantine(BTreeMap::from([
                ("person_id", held("person_id")),
                ("key", TypedCell::Text(key)),
                ("reason", TypedCell::Text(UNREADABLE.to_owned())),
                ("received_at", held("changed_at")),
                ("entry", TypedCell::Bytes(resource.into_bytes())),
                ("identity", identity.map_or(TypedCell::Null, TypedCell::Integer)),
            ]))
        }
        _ => {
            for cell in &mut row {
                if let TypedCell::Text(text) = cell
                    && text.contains('\0')
                {
                    *text = text.replace('\0', "\u{FFFD}");
                }
            }
            if let (Some(at), true) = (columns.place("key"), is_long) {
                row[at] = TypedCell::Text(shortened(&key.unwrap_or_default()));
            }
            Destination::Same(row)
        }
    }
}

/// Returns a key that an index takes.
fn shortened(key: &str) -> String {
    let key = key.replace('\0', "\u{FFFD}");
    key[..key.floor_char_boundary(KEY_BYTES_MAX)].to_owned()
}

/// Puts what cannot be stored as what it claims to be into quarantine, unless something is there under its key.
async fn redirect(session: &Session, rows: Vec<BTreeMap<&'static str, TypedCell>>) -> Result<(), Undone> {
    let columns = MoveColumns::of(session, "quarantine").await?;
    let mut so_far = progress(session, REDIRECTED).await?;
    let statement = format!("{} ON CONFLICT DO NOTHING RETURNING 1", columns.insert());
    for mut row in rows {
        let cell = |name: &str| row.remove(name).unwrap_or(TypedCell::Null);
        let row: Vec<TypedCell> = columns.names().map(cell).collect();
        let arrays = columns.arrays(std::slice::from_ref(&row));
        let params: Vec<&dyn Param> = arrays.iter().map(|array| &**array).collect();
        if session.row_or_none(&statement, &params).await?.is_some() {
            so_far.add(columns.hash(&row));
        }
    }
    note_progress(session, REDIRECTED, so_far).await
}
