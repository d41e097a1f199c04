//! SQLite as a simulation has it: nothing waits for the disk, which may be full,
//! and the process may die before each commit.

use rusqlite::Connection;

use crate::simulation::stage;

/// Prepares the writer's connection, if a simulation runs on this thread.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    if !stage::is_set() {
        return Ok(());
    }
    connection.pragma_update(None, "synchronous", "OFF")?;
    if stage::is_disk_full() {
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
    }
    connection.commit_hook(Some(|| {
        stage::beside_a_commit();
        false
    }))
}
