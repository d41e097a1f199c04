//! Which roster this machine's own files last were, when it was in force: files that are others since were changed here,
//! and are no old copy. Kept beside the program and not with the files, so that what puts back an old copy of these does
//! not put back this.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::beside;
use super::files::{careful, checked, give_to_owner, make_private, with_suffix};
use crate::plan::roster::RosterHash;

/// No hash is longer.
const BYTES_MAX: u64 = 128;

fn file(warehouse: &Path) -> PathBuf {
    beside(warehouse, ".roster")
}

/// Returns what is remembered; nothing where that cannot be read.
pub(in crate::warehouse) fn recall(warehouse: &Path) -> Option<RosterHash> {
    let path = file(warehouse);
    let opened = checked(&path, careful().read(true).open(&path)).ok()?;
    let mut text = String::new();
    opened.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(RosterHash::stored(text.trim().to_owned()))
}

/// Remembers it. Where that fails, going back to an earlier roster has to be ordered.
pub(in crate::warehouse) fn remember(warehouse: &Path, hash: &RosterHash) {
    if recall(warehouse).as_ref() == Some(hash) {
        return;
    }
    let path = file(warehouse);
    if let Err(error) = put(&path, hash) {
        tracing::warn!("{}: which roster is in force cannot be noted: {error}", path.display());
    }
}

fn put(path: &Path, hash: &RosterHash) -> std::io::Result<()> {
    let new = with_suffix(path, ".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = make_private(&new)?;
    give_to_owner(&file, &new)?;
    writeln!(file, "{}", hash.as_str())?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_in_force_is_remembered_and_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = folder.path().join("healthex-sync");
        assert_eq!(recall(&warehouse), None);
        for name in ["a", "b", "b"] {
            let hash = RosterHash::stored(name.repeat(64));
            remember(&warehouse, &hash);
            assert_eq!(recall(&warehouse), Some(hash));
        }
        let (memory, elsewhere) = (file(&warehouse), folder.path().join("elsewhere"));
        fs::rename(&memory, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &memory).unwrap();
        assert_eq!(recall(&warehouse), None);
    }
}
