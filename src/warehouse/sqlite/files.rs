//! The names, modes and side files of what lies beside a warehouse.

use std::fs;
use std::fs::{OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The mode of every file that nobody but its owner may read.
pub(super) const MODE: u32 = 0o600;

/// Returns the path of a file beside another, whose name goes on so.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The files that SQLite keeps beside a database.
pub(super) const SIDES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Removes a database file, if there is one, with what is beside it.
pub(super) fn remove_with_sides(path: &Path) -> std::io::Result<()> {
    for suffix in SIDES.iter().chain(&[""]) {
        match fs::remove_file(with_suffix(path, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Makes an empty file that only its owner can read. There must be none, and no link either.
pub(super) fn make_private(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))
}
