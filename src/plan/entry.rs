//! One entry of a Bundle before anything is made of it, and the limits it is held against.

use std::fmt;

/// One element of `entry`, as it came.
pub struct Entry {
    pub bytes: Vec<u8>,
    /// Its full size; more than `bytes` when it was too large to be kept.
    pub size: u64,
    /// How deep its arrays and objects nest.
    pub depth: u32,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} bytes)", self.size)
    }
}

/// How entries of one server are named and what is too much.
#[derive(Clone, Debug)]
pub struct EntryRules {
    /// `{base}/FHIR/R4/`, which is cut from a `fullUrl` to make its key.
    pub fhir_root: String,
    /// Larger entries are quarantined without their bytes.
    pub entry_bytes_max: u64,
    /// Deeper nesting is quarantined: SQLite's own JSON functions would stumble over it.
    pub depth_max: u32,
}
