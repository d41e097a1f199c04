//! What `check` wants to know of a warehouse before a cycle uses it. Reads only.

use std::os::unix::fs::MetadataExt;

use super::{checkpoint, open, purge, scrub, staying_reader};
use crate::warehouse::beside::files;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::place::{Place, folder_of};
use crate::warehouse::report::{Access, Preflight};

/// Looks at a warehouse without a lock.
pub(in crate::warehouse) fn preflight(place: &Place) -> Result<Preflight, OpenFailed> {
    let path = &open::resolve(place.path())?;
    let connection = open::open_reader(path)?;
    open::check_server(&connection, place)?;
    let look = || -> Result<Preflight, StoreFailed> {
        let found = std::fs::metadata(path).map_err(|error| StoreFailed::Engine(error.to_string()))?;
        let mode = found.mode() & 0o777;
        let folder =
            std::fs::metadata(folder_of(path)).map_err(|error| StoreFailed::Engine(error.to_string()))?;
        let access = match (judge_mode(mode, found.gid(), place.group), place.group) {
            (Access::AsWanted, Some(group)) if !may_enter(folder.mode(), folder.gid(), group) => {
                Access::ClosedFolder
            }
            (access, _) => access,
        };
        Ok(Preflight {
            schema: open::user_version(&connection)?,
            schema_known: open::SCHEMA_VERSION,
            room: scrub::room(&connection, path)?,
            patients: checkpoint::all(&connection)?,
            mode,
            access,
            unscrubbed: purge::unscrubbed(&connection)?,
            oldest_unscrubbed: purge::oldest_unscrubbed(&connection)?,
            scrub_waits_for: scrub::waits_for(&connection, path)?,
            reader: staying_reader::find(&connection, path)?,
        })
    };
    look().map_err(|source| OpenFailed::Unusable { path: path.clone(), source })
}

fn judge_mode(mode: u32, owner: u32, group: Option<u32>) -> Access {
    if mode & !open::MODE_FOR_GROUP != 0 {
        return Access::TooWide;
    }
    match (mode & !files::MODE != 0, group) {
        (true, None) => Access::GroupUnasked,
        (true, Some(wanted)) if wanted != owner => Access::OtherGroup,
        (false, Some(_)) => Access::TooNarrow,
        (true, Some(_)) | (false, None) => Access::AsWanted,
    }
}

/// Returns whether members of a group may enter a folder.
fn may_enter(mode: u32, owner: u32, group: u32) -> bool {
    mode & if owner == group { 0o010 } else { 0o001 } != 0
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

    #[test]
    fn a_folder_lets_its_own_group_in_or_everybody() {
        assert!(may_enter(0o750, 5, 5) && may_enter(0o711, 6, 5) && may_enter(0o710, 5, 5));
        assert!(!may_enter(0o700, 5, 5) && !may_enter(0o750, 6, 5) && !may_enter(0o701, 5, 5));
    }
}
