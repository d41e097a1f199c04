//! Removes the last bytes of what was deleted, in place: every byte of the file that nothing refers
//! to becomes zero, through SQLite's own pager.
//!
//! ```text
//! look (one snapshot, no lock) ─→ slices (short transactions) ─→ look ─→ … until one finds nothing
//! ```
//!
//! Promise: all or nothing. A file that is not sound from its first to its last page is refused
//! before the first write, and VACUUM does what it always did. What is in use, what points to it and
//! what counts it stays as it is. Absent on purpose: making the file smaller, and the decision when.

pub mod database;
pub mod look;
pub mod page;
pub mod slice;
pub mod walk;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
