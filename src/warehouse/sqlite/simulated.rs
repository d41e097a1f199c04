//! SQLite as a simulation has it: nothing waits for the disk.

use rusqlite::Connection;

use crate::simulation::stage;

/// Prepares the writer's connection, if a simulation runs on this thread.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    if stage::is_set() {
        connection.pragma_update(None, "synchronous", "OFF")?;
    }
    Ok(())
}
