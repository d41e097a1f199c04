//! The names, modes and side files of what lies beside a warehouse.

use std::fs;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::warehouse::place::folder_of;

/// The mode of every file that nobody but its owner may read.
pub(in crate::warehouse) const MODE: u32 = 0o600;

/// Returns the path of a file beside another, whose name goes on so.
pub(in crate::warehouse) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The files that SQLite keeps beside a database.
pub(in crate::warehouse) const SIDES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Removes a database file, if there is one, with what is beside it.
pub(in crate::warehouse) fn remove_with_sides(path: &Path) -> std::io::Result<()> {
    for suffix in SIDES.iter().chain(&[""]) {
        match fs::remove_file(with_suffix(path, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Returns options that neither follow a link nor wait for whoever holds the other end of a pipe. What
/// they make, only its owner can read.
pub(in crate::warehouse) fn careful() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(MODE).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    options
}

/// Returns what [`careful`] options have opened, if it is a regular file.
pub(in crate::warehouse) fn checked(path: &Path, opened: std::io::Result<File>) -> std::io::Result<File> {
    let file = opened.map_err(|error| explain(path, error))?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(Error::other("it is no regular file")) }
}

/// Says what is wrong with a file in words that an operator knows.
pub(in crate::warehouse) fn explain(path: &Path, error: Error) -> Error {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Error::other("it is a symbolic link; name the file itself"),
        _ => error,
    }
}

/// Makes an empty file that only its owner can read. There must be none, and no link either.
pub(in crate::warehouse) fn make_private(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    Ok(file)
}

/// Makes one that is to become a warehouse.
pub(in crate::warehouse) fn make_private_for_owner(path: &Path) -> std::io::Result<()> {
    give_to_owner(&make_private(path)?, path)
}

/// Gives what root has made beside a warehouse to whom the folder belongs: the service that runs as
/// that account could not use it, or the warehouse, any more.
pub(in crate::warehouse) fn give_to_owner(file: &File, path: &Path) -> std::io::Result<()> {
    if !rustix::process::geteuid().is_root() || file.metadata()?.uid() != 0 {
        return Ok(());
    }
    let folder = fs::metadata(folder_of(path))?;
    if folder.uid() == 0 { Ok(()) } else { fchown(file, Some(folder.uid()), Some(folder.gid())) }
}
