//! What is kept beside a warehouse, on the machine of whoever writes to it: the ledger of purges, the
//! register of copies, operators' orders, which roster was last in force, and how such files are made.
//!
//! Promise: none of it is in the warehouse, so that no restore takes it back. Absent on purpose: engines.

pub(in crate::warehouse) mod appended;
pub(in crate::warehouse) mod copies;
pub(in crate::warehouse) mod files;
pub(in crate::warehouse) mod ledger;
pub(in crate::warehouse) mod ledger_text;
pub(in crate::warehouse) mod purge_requests;
pub(in crate::warehouse) mod roster_memory;

use std::path::{Path, PathBuf};

use crate::warehouse::place::folder_of;

/// Returns the path of a file beside the warehouse itself, and not beside a link to it.
pub(in crate::warehouse) fn beside(warehouse: &Path, suffix: &str) -> PathBuf {
    let real = std::fs::canonicalize(warehouse).unwrap_or_else(|_| in_real_folder(warehouse));
    files::with_suffix(&real, suffix)
}

/// Returns the path with its folder's links followed, and not its own.
fn in_real_folder(path: &Path) -> PathBuf {
    match (std::fs::canonicalize(folder_of(path)), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}
