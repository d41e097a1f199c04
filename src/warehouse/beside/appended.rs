//! Small files beside the warehouse that only grow: what was written to them is on the disk before
//! anything goes on.
//!
//! Promise: a symbolic link is never followed, only the owner can read, and a line is written whole
//! or taken back. Absent on purpose: what the lines say.

use std::fs;
use std::fs::{File, Permissions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::files::{MODE, careful, checked, explain, give_to_owner, with_suffix};
use crate::warehouse::place::folder_of;

/// A file that grew beyond this is not read into memory.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Returns what the file holds; `None` where there is none.
pub(in crate::warehouse) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match checked(path, careful().read(true).open(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Error::other(format!("it is larger than {} MB", BYTES_MAX / 1_000_000)));
    }
    Ok(Some(bytes))
}

/// Fails where a line could not be added.
pub(in crate::warehouse) fn try_append(path: &Path) -> Result<()> {
    checked(path, careful().append(true).open(path)).map(drop)
}

/// Takes from others what they may not read.
pub(in crate::warehouse) fn restrict(path: &Path) -> Result<()> {
    make_private(&checked(path, careful().append(true).open(path))?)
}

/// Adds `text` at the end of a file that has `length` bytes.
pub(in crate::warehouse) fn append(path: &Path, length: u64, text: &str) -> Result<()> {
    let file = checked(path, careful().append(true).open(path))?;
    if file.metadata()?.len() != length {
        return Err(Error::other("another program has changed it"));
    }
    write_whole(file, length, text)
}

/// Adds `text` at the end of a file, and makes the file where there is none.
pub(in crate::warehouse) fn append_or_create(path: &Path, text: &str) -> Result<()> {
    let is_new = !path.exists();
    let file = checked(path, careful().read(true).append(true).create(true).open(path))?;
    make_private(&file)?;
    give_to_owner(&file, path)?;
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    // Half a line that a crash left stays alone on its line.
    let begin = if last == *b"\n" { "" } else { "\n" };
    write_whole(file, length, &format!("{begin}{text}"))?;
    if is_new { sync_folder(path) } else { Ok(()) }
}

fn write_whole(mut file: File, length: u64, text: &str) -> Result<()> {
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a line would be there for good; what cannot be cut now is cut by the next reader.
        let _ = file.set_len(length).and_then(|()| file.sync_all());
    }
    written
}

/// Cuts off what comes after `length` bytes.
pub(in crate::warehouse) fn cut(path: &Path, length: u64) -> Result<()> {
    let file = checked(path, careful().append(true).open(path))?;
    file.set_len(length)?;
    file.sync_all()
}

/// Makes a file that appears with all of `text` or not at all. There must be none.
pub(in crate::warehouse) fn create(path: &Path, text: &str) -> Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(explain(path, ErrorKind::AlreadyExists.into()));
    }
    let new = with_suffix(path, ".new");
    let made = write_new(&new, text).and_then(|()| fs::rename(&new, path));
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made.and_then(|()| sync_folder(path))
}

fn write_new(new: &PathBuf, text: &str) -> Result<()> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = careful().write(true).create_new(true).open(new)?;
    make_private(&file)?;
    give_to_owner(&file, new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn make_private(file: &File) -> Result<()> {
    if file.metadata()?.permissions().mode() & 0o777 == MODE {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(MODE))
}

/// Puts a new name of a folder on the disk.
pub(in crate::warehouse) fn sync_folder(path: &Path) -> Result<()> {
    File::open(folder_of(path))?.sync_all()
}
