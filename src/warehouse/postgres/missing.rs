//! What is the server's own work, in plain words.

use crate::warehouse::failure::StoreFailed;

/// Says who makes copies of a server's databases.
pub(in crate::warehouse) fn copied_by_the_server() -> StoreFailed {
    StoreFailed::Refused(
        "a warehouse in PostgreSQL is backed up and restored by the server's own means: pg_basebackup with its WAL archive, or pg_dump; see docs/scale-out.md".to_owned(),
    )
}
