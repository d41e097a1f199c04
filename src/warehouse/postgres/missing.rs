//! What is not there yet, in plain words.

use crate::warehouse::failure::StoreFailed;

/// Says that an operation is not there yet.
pub(super) fn not_yet(what: &str) -> StoreFailed {
    StoreFailed::Engine(format!("{what} is not there yet for a warehouse in PostgreSQL"))
}
