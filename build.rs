//! Hashes the evaluator's own source: a table that an earlier evaluator filled is built anew. And notes
//! the commit, for `--version`.
//!
//! Absent on purpose: the view definitions, which are hashed apart.

use std::path::{Path, PathBuf};
use std::process::Command;
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
    println!("cargo:rustc-env=HEALTHEX_SYNC_COMMIT={}", commit());
    Ok(())
}

/// Returns the commit that is built, with what there is to say against it. A debug build is not made
/// anew for each commit, so it may be of a later one.
fn commit() -> String {
    println!("cargo:rerun-if-env-changed=HEALTHEX_SYNC_COMMIT");
    if let Ok(given) = env::var("HEALTHEX_SYNC_COMMIT") {
        return given;
    }
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let Some(commit) = git(&["describe", "--always", "--dirty=-modified", "--abbrev=12", "--exclude=*"])
    else {
        return "unknown".to_owned();
    };
    if !is_release {
        return format!("{commit} (debug build)");
    }
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    commit
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
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
