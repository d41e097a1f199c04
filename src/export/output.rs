//! Files of an export as they are written: counted, hashed, and split where they grow too large.
//!
//! Promise: a file is new, its owner's alone, and on the disk when it is told of.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Result, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::plan::row::hex;

/// A file that was written, as the manifest tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct WrittenFile {
    /// From the export's folder.
    pub(crate) file: String,
    /// The resource type or the table that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) of: Option<String>,
    pub(crate) content: Content,
    /// Lines, rows or entries.
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// What a file is to whoever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    /// All there is; what was taken from an earlier export goes.
    Whole,
    /// What changed: it takes the place of what has the same person and key.
    Changed,
    /// What is no longer there.
    Deleted,
    /// Which patients were purged: nothing of them may stay.
    Purged,
    /// Whose each line of another file is.
    Keys,
}

/// A new file that counts and hashes what is written into it.
pub(crate) struct HashedFile {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl HashedFile {
    /// Makes a file in `folder`, and the folders in its name.
    pub(crate) fn create(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { file: BufWriter::new(file), hash: Sha256::new(), bytes: 0 })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts it on the disk.
    pub(crate) fn finish(mut self, name: FileName<'_>, count: u64) -> Result<WrittenFile> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(WrittenFile {
            file: name.file.to_owned(),
            of: name.of.map(str::to_owned),
            content: name.content,
            count,
            bytes: self.bytes,
            sha256: hex(&self.hash.finalize()),
        })
    }
}

/// What a file is called in the manifest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileName<'n> {
    pub(crate) file: &'n str,
    pub(crate) of: Option<&'n str>,
    pub(crate) content: Content,
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}
