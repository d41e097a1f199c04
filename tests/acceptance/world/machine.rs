//! The machine that the tests run on: its tools, and the project's own files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::support::skip;

/// A tool that not every machine has: without it the test is skipped aloud, or fails where all
/// is demanded.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Has a tool read `input`, and returns whether it ended well and what it printed.
pub(crate) fn pipe(command: &mut Command, input: &str) -> (bool, String) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.success(), said.concat())
}

/// A file or folder of this project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The library that gives a process another clock.
pub(crate) fn faketime() -> Option<PathBuf> {
    let mut libraries = glob::glob("/usr/lib/*/faketime/libfaketimeMT.so.1").unwrap();
    let found = libraries.find_map(Result::ok);
    if found.is_none() {
        skip("libfaketime is not installed");
    }
    found
}

/// The Python of a virtual environment below `target/` that has these packages; made by the first that wants it.
pub(crate) fn python_with(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    static MADE: Mutex<BTreeMap<String, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap();
    made.entry(name.to_owned()).or_insert_with(|| make_environment(name, packages)).clone()
}

fn make_environment(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let python = folder.join("bin/python");
    let marker = folder.join("complete");
    let wanted = packages.join("\n");
    if fs::read_to_string(&marker).is_ok_and(|complete| complete == wanted) {
        return Ok(python);
    }
    succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let options =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
    succeeds(Command::new(&python).args(options).args(packages))?;
    fs::write(&marker, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

fn succeeds(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Err(error) => Err(format!("{command:?}: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
