//! `init`: writes the first files, and never overwrites one.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::ExitStatus;
use crate::cli::InitArgs;

const CONFIG: &str = include_str!("../../config/healthex-sync.toml");
const ROSTER: &str = include_str!("../../config/roster.toml");

pub(super) fn init(args: &InitArgs, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let dir = args.dir.as_path();
    make_private_folder(dir).map_err(|error| anyhow::anyhow!("{}: {error}", dir.display()))?;
    // Who takes part in a study is not for everybody on this machine.
    let (mut wrote, mut kept) = (Vec::new(), Vec::new());
    for (name, text, mode) in [("healthex-sync.toml", CONFIG, 0o644), ("roster.toml", ROSTER, 0o600)] {
        let path = dir.join(name);
        match write_new(&path, text, mode) {
            Ok(()) => wrote.push(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => kept.push(path),
            Err(error) => return Err(anyhow::anyhow!("{}: {error}", path.display())),
        }
    }
    if args.json {
        writeln!(out, "{}", serde_json::json!({ "wrote": wrote, "kept": kept }))?;
        return Ok(ExitStatus::Done);
    }
    for path in wrote {
        writeln!(out, "wrote {}", path.display())?;
    }
    for path in kept {
        writeln!(out, "kept  {}, which is there already", path.display())?;
    }
    writeln!(
        out,
        "next: put the API key and secret into {} and {} (mode 0600), list your patients in roster.toml, then `healthex-sync check`",
        dir.join("api-key").display(),
        dir.join("api-secret").display()
    )?;
    Ok(ExitStatus::Done)
}

/// Makes a folder that only its owner may enter. One that is there stays as it is.
pub(super) fn make_private_folder(dir: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Writes a new file. Fails where there is one already.
pub(super) fn write_new(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}
