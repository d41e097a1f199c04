//! The roster that the next cycle here goes by, and `roster publish`, which says that it is to be that of the files.

use std::io::Write;

use serde_json::json;

use super::{Context, ExitStatus, location, place};
use crate::clock;
use crate::cycle::RosterFault;
use crate::cycle::rosters::{Agreed, agreed, own_roster};
use crate::plan::stamp;
use crate::roster::Roster;
use crate::settings::{Complaints, RosterSettings, Settings};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::place::Location;
use crate::warehouse::{Reader, publish_roster};
use crate::wording::counted;

/// Returns the roster in force, and why that of the files is not.
pub(super) fn roster_in_force(
    settings: &Settings,
    files: Roster,
) -> anyhow::Result<(Roster, Option<RosterFault>)> {
    match location(settings)? {
        Location::File(_) => Ok((files, None)),
        server @ Location::Server(_) => Ok(in_force_by(&Reader::open(&server)?, &files, &settings.roster)?),
    }
}

/// The same by a reader that is open.
pub(super) fn in_force_by(
    reader: &Reader,
    files: &Roster,
    settings: &RosterSettings,
) -> Result<(Roster, Option<RosterFault>), StoreFailed> {
    let Agreed { roster, fault } = agreed(files, reader.roster_in_force(own_roster(files))?, settings);
    Ok((roster.into_owned(), fault))
}

pub(super) fn publish(
    context: &Context<'_>,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let (settings, roster) = context.settings_and_roster()?;
    let complain = |why: &str| anyhow::Error::from(Complaints::one(why.to_owned()));
    let Location::Server(server) = place(&settings)?.location else {
        return Err(complain(
            "a warehouse in a file has one roster, that of roster.files; only with warehouse.url is there anybody to publish it to",
        ));
    };
    if roster.version.is_none() {
        return Err(complain(
            "roster.files names none: publish from a machine that has the files which are to count",
        ));
    }
    let former = publish_roster(&server, &roster.patients, clock::now())?;
    let is_new = former.as_ref().is_none_or(|former| Some(&former.hash) != roster.version.as_ref());
    if as_json {
        let told = json!({
            "published": is_new,
            "patients": roster.patients.len(),
            "former": former.filter(|_| is_new).map(|former| json!({
                "patients": former.patients, "seen_at": stamp(former.seen_at), "seen_by": former.seen_by,
            })),
        });
        writeln!(out, "{told}")?;
        return Ok(ExitStatus::Done);
    }
    let patients = counted(roster.patients.len(), "patient", "patients");
    match former {
        _ if !is_new => writeln!(out, "the roster of {patients} is in force already")?,
        None => writeln!(out, "the roster of {patients} is in force")?,
        Some(former) => writeln!(
            out,
            "the roster of {patients} is in force, in place of {} of {}, from {}: each worker's next cycle goes by it",
            counted(former.patients, "patient", "patients"),
            stamp(former.seen_at),
            former.seen_by
        )?,
    }
    Ok(ExitStatus::Done)
}
