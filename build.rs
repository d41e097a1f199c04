//! Hashes the evaluator's own source: a table that an earlier evaluator filled is built anew.
//!
//! Absent on purpose: the view definitions, which are hashed apart.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use xxhash_rust::xxh3::Xxh3;

const SOURCE: &str = "src/views";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed={SOURCE}");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
    let mut files = Vec::new();
    list(&root.join(SOURCE), &mut files)?;
    files.sort();
    let mut hasher = Xxh3::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap_or(&file);
        hasher.update(name.to_string_lossy().as_bytes());
        hasher.update(&fs::read(&file)?);
    }
    println!("cargo:rustc-env=EVALUATOR_SOURCE_HASH={:032x}", hasher.digest128());
    Ok(())
}

/// Everything but tests, which change no row.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.file_name().is_none_or(|name| name != "tests.rs") {
            files.push(path);
        }
    }
    Ok(())
}
