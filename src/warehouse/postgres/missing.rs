//! What is not there yet, in plain words.

use crate::warehouse::failure::StoreFailed;

/// Says that an operation is not there yet.
pub(in crate::warehouse) fn not_yet(what: &str) -> StoreFailed {
    StoreFailed::Refused(format!("{what} is not there yet for a warehouse in PostgreSQL"))
}

/// Says who makes copies of a server's databases.
pub(in crate::warehouse) fn copied_by_the_server() -> StoreFailed {
    StoreFailed::Refused(
        "a warehouse in PostgreSQL is backed up and restored by the server's own means: pg_basebackup with its WAL archive, or pg_dump; see docs/scale-out.md".to_owned(),
    )
}
