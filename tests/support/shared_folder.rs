//! Where the data is that tests and benchmarks share with other checkouts of the project.

use std::env;
use std::path::{Path, PathBuf};

/// Returns `$HEALTHEX_SHARED/data`, else the folder `shared/data` beside the project.
pub(crate) fn shared_folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    env::var_os("HEALTHEX_SHARED").map_or_else(beside, PathBuf::from).join("data")
}
