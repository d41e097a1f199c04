//! Reads the file that faults are scripted in.
//!
//! Promise: what a file asks for is played, or refused with the names and fields there are; a
//! misspelt key is never ignored. The names are those of [`FaultKind`] in snake case:
//!
//! ```toml
//! [[fault]]
//! kind = "status"             # every other key but the next five belongs to the kind
//! status = 503
//! retry_after = "2"
//! person = "sandbox-0001"     # default: everyone
//! at = "everything"           # or "token", "consents" (the list) or "consent" (one record)
//! page = 2                    # counted from 1, by offset; default: any
//! from_request = 1            # the n-th request that fits is the first to get it
//! times = 3                   # default: from then on
//! ```
//!
//! Deliberately absent: a check that two faults make sense together.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;

use super::faults::{FaultAt, FaultKind, ScriptedFault};

impl ScriptedFault {
    /// Reads a file of `[[fault]]` tables.
    pub fn load(path: &Path) -> Result<Vec<Self>, FaultFileRefused> {
        let text = fs::read_to_string(path)
            .map_err(|cause| FaultFileRefused::Unreadable { path: path.to_owned(), cause })?;
        Self::parse(&text).map_err(|what| FaultFileRefused::NotAScript { path: path.to_owned(), what })
    }

    /// Reads the text of such a file; the complaint says which fault it is about.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let file: FaultFile = toml::from_str(text).map_err(|error| error.to_string())?;
        (1..)
            .zip(file.fault)
            .map(|(number, table)| from_table(table).map_err(|what| format!("fault {number}: {what}")))
            .collect()
    }
}

/// Why a fault file cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum FaultFileRefused {
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{} is not a fault script: {what}", path.display())]
    NotAScript { path: PathBuf, what: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultFile {
    #[serde(default)]
    fault: Vec<toml::Table>,
}

/// Serde cannot both flatten the kind's fields and refuse unknown ones, so the keys that all
/// faults share are taken out by hand and the rest must fit the kind.
fn from_table(mut table: toml::Table) -> Result<ScriptedFault, String> {
    let Some(toml::Value::String(name)) = table.remove("kind") else {
        return Err("`kind` is missing; it names the fault".to_owned());
    };
    let fault = ScriptedFault {
        person: take(&mut table, "person")?,
        at: take(&mut table, "at")?.unwrap_or_default(),
        page: take(&mut table, "page")?,
        from_request: take(&mut table, "from_request")?.unwrap_or(1),
        times: take(&mut table, "times")?,
        kind: kind_of(&name, table)?,
    };
    if fault.from_request == 0 || fault.page == Some(0) {
        return Err("`from_request` and `page` are counted from 1".to_owned());
    }
    if fault.at != FaultAt::Everything && (fault.person.is_some() || fault.page.is_some()) {
        return Err("only a request for `everything` has a `person` and a `page`".to_owned());
    }
    check_statuses(&fault.kind)?;
    Ok(fault)
}

fn take<'de, T: Deserialize<'de>>(table: &mut toml::Table, key: &str) -> Result<Option<T>, String> {
    match table.remove(key) {
        None => Ok(None),
        Some(value) => match value.try_into() {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(format!("`{key}`: {}", error.to_string().trim())),
        },
    }
}

fn kind_of(name: &str, fields: toml::Table) -> Result<FaultKind, String> {
    let no_fields = fields.is_empty();
    let nested = toml::Table::from_iter([(name.to_owned(), toml::Value::Table(fields))]);
    let kind = toml::Value::Table(nested).try_into();
    match kind {
        Ok(kind) => Ok(kind),
        // A kind without fields is not a table to serde but a bare name.
        Err(with_fields) => match toml::Value::String(name.to_owned()).try_into() {
            Ok(kind) if no_fields => Ok(kind),
            Ok(_) => Err(format!("`{name}` has no fields of its own")),
            Err(_) => Err(with_fields.to_string().trim().to_owned()),
        },
    }
}

fn check_statuses(kind: &FaultKind) -> Result<(), String> {
    let (status, allowed) = match kind {
        FaultKind::Status { status, .. } => (*status, 400..=599),
        FaultKind::Answer { status, .. } => (*status, 200..=599),
        FaultKind::Redirect { status, .. } => (*status, 300..=399),
        _ => return Ok(()),
    };
    if allowed.contains(&status) {
        Ok(())
    } else {
        Err(format!("status {status} is not one of {} to {}", allowed.start(), allowed.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::{ErrorBody, Keep, RawBytes};
    use super::*;

    fn check_refused(text: &str, said: &str) {
        let complaint = ScriptedFault::parse(text).unwrap_err();
        assert!(complaint.contains(said), "{complaint}");
    }

    #[test]
    fn a_file_says_which_request_gets_what() {
        let faults = ScriptedFault::parse(
            "[[fault]]\nkind = \"status\"\nstatus = 503\nbody = \"html\"\nperson = \"anna\"\npage = 2\ntimes = 3\n\
             [[fault]]\nkind = \"next_self_loop\"\n\
             [[fault]]\nkind = \"cut_chunk\"\nkeep = 100\n\
             [[fault]]\nkind = \"cut_gzip\"\nkeep = 0.25\n\
             [[fault]]\nkind = \"html_200\"\nat = \"token\"\n\
             [[fault]]\nkind = \"raw\"\nbytes = [72, 255]\n",
        )
        .unwrap();
        let status = FaultKind::Status { status: 503, body: ErrorBody::Html, retry_after: None };
        let first = ScriptedFault {
            person: Some("anna".to_owned()),
            page: Some(2),
            times: Some(3),
            ..ScriptedFault::always(status)
        };
        assert_eq!(faults[0], first);
        assert_eq!(faults[1].kind, FaultKind::NextSelfLoop);
        assert_eq!(faults[2].kind, FaultKind::CutChunk { keep: Keep::Bytes(100) });
        assert_eq!(faults[3].kind, FaultKind::CutGzip { keep: Keep::Fraction(0.25) });
        assert_eq!((faults[4].at, faults[4].kind.name().as_str()), (FaultAt::Token, "html_200"));
        assert_eq!(faults[5].kind, FaultKind::Raw { bytes: RawBytes::Bytes(vec![72, 255]) });
    }

    #[test]
    fn a_fault_that_cannot_be_played_is_refused_with_what_there_is() {
        check_refused("[[fault]]\nkind = \"next_loop\"", "next_self_loop");
        check_refused("[[fault]]\nkind = \"next_self_loop\"\nkeep = 1", "no fields of its own");
        check_refused("[[fault]]\nkind = \"cut_chunk\"\nkept = 1", "keep");
        check_refused("[[fault]]\nkind = \"status\"", "status");
        check_refused("[[fault]]\nkind = \"status\"\nstatus = 200", "400 to 599");
        check_refused("[[fault]]\nstatus = 500", "`kind` is missing");
        check_refused("[[fault]]\nkind = \"bom\"\ntimes = \"x\"", "`times`");
        check_refused("[[faults]]\nkind = \"bom\"", "faults");
    }
}
