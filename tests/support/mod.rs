//! What all test binaries share: the shared data, and how a skip is said.

pub(crate) mod resources;
mod shared_folder;

use std::io::Write;
use std::path::PathBuf;
use std::{env, io, thread};

/// Returns a file or folder of the shared data; skips where it is missing.
#[track_caller]
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = shared_folder::shared_folder().join(name);
    if path.exists() {
        return Some(path);
    }
    skip(&format!("{} is not there; HEALTHEX_SHARED may say where it is", path.display()));
    None
}

/// Says aloud what cannot be tried on this machine, and fails where all is required.
#[track_caller]
pub(crate) fn skip(why: &str) {
    let required = env::var("HEALTHEX_SYNC_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "HEALTHEX_SYNC_REQUIRE_ALL=1 forbids skipping: {why}");
    let test = thread::current().name().unwrap_or("a test").to_owned();
    // Not captured by the test's own output, which is shown only where it fails.
    let _ = writeln!(io::stderr(), "SKIPPED {test}: {why}");
}
