//! What `check` wants to know of a warehouse before a cycle uses it. Reads only.

use std::os::unix::fs::MetadataExt;

use super::checkpoint::Patient;
use super::failure::{OpenFailed, StoreFailed};
use super::open::Place;
use super::purge::Room;
use super::{checkpoint, open, purge, tables};
use crate::plan::PersonId;

pub struct Survey {
    pub schema: i64,
    pub room: Option<Room>,
    /// With `has_rows` filled in of those that are not listed.
    pub patients: Vec<Patient>,
}

pub fn survey(place: &Place, is_listed: impl Fn(&PersonId) -> bool) -> Result<Survey, OpenFailed> {
    let connection = open::open_reader(&place.path)?;
    open::check_server(&connection, place)?;
    let look = || -> Result<Survey, StoreFailed> {
        let mut patients = checkpoint::all(&connection)?;
        let unlisted = patients.iter_mut().filter(|patient| !is_listed(&patient.person));
        tables::find_rows(&connection, unlisted)?;
        let (schema, room) = (open::user_version(&connection)?, purge::room(&connection, &place.path)?);
        Ok(Survey { schema, room, patients })
    };
    look().map_err(|source| OpenFailed::Unusable { path: place.path.clone(), source })
}

/// Whom the file's mode lets in.
#[derive(Debug, PartialEq, Eq)]
pub enum Access {
    AsWanted,
    /// The next cycle opens it to `warehouse.group`.
    TooNarrow,
    /// A group may read it, and `warehouse.group` names none.
    GroupUnasked,
    /// A group other than `warehouse.group` may read it.
    OtherGroup,
    TooWide,
}

/// The file's mode, and what is to be thought of it.
pub fn access(place: &Place) -> std::io::Result<(u32, Access)> {
    let found = std::fs::metadata(&place.path)?;
    let mode = found.mode() & 0o777;
    Ok((mode, judge_mode(mode, found.gid(), place.group)))
}

fn judge_mode(mode: u32, owner: u32, group: Option<u32>) -> Access {
    if mode & !open::MODE_FOR_GROUP != 0 {
        return Access::TooWide;
    }
    match (mode & !open::MODE != 0, group) {
        (true, None) => Access::GroupUnasked,
        (true, Some(wanted)) if wanted != owner => Access::OtherGroup,
        (false, Some(_)) => Access::TooNarrow,
        (true, Some(_)) | (false, None) => Access::AsWanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_reads_only_where_the_setting_names_it() {
        let check = |mode, owner, group, expected| {
            assert_eq!(judge_mode(mode, owner, group), expected, "{mode:o} {owner} {group:?}");
        };
        check(0o600, 5, None, Access::AsWanted);
        check(0o640, 5, Some(5), Access::AsWanted);
        check(0o600, 5, Some(5), Access::TooNarrow);
        check(0o640, 5, None, Access::GroupUnasked);
        check(0o640, 6, Some(5), Access::OtherGroup);
        check(0o644, 5, None, Access::TooWide);
        check(0o660, 5, Some(5), Access::TooWide);
    }
}
