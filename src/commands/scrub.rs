//! `scrub`: removes the last bytes of purged patients now.

use std::io::Write;

use serde_json::json;

use super::{Context, ExitStatus, place, runtime};
use crate::cli::ScrubArgs;
use crate::clock;
use crate::plan::{Timestamp, stamp};
use crate::time::TimeDelta;
use crate::warehouse::place::{Location, OtherServer, Place, Server};
use crate::warehouse::purge::{Scrub, Scrubbed, ScrubbedBy};
use crate::warehouse::{Warehouse, scrub_server};

pub(super) fn scrub(
    context: &Context<'_>,
    args: &ScrubArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let place = place(&context.settings()?)?;
    let scrub = match &place.location {
        Location::Server(server) => scrub_server(server, clock::now)?,
        Location::File(_) => {
            let warehouse = Warehouse::open(&place, OtherServer::Refuse, clock::now())?;
            runtime()?.block_on(warehouse.scrub(clock::now))?
        }
    };
    let (purges, waits) = match &scrub {
        Scrub::NothingToDo => (0, None),
        Scrub::Done(Scrubbed { purges, .. }) => (*purges, None),
        Scrub::Waits(waits) => (0, Some(waits.to_string())),
    };
    if args.json {
        let told = json!({ "purges": purges, "scrubbed": waits.is_none(), "scrub_waits_for": waits });
        writeln!(out, "{told}")?;
    } else {
        match &scrub {
            Scrub::NothingToDo => writeln!(out, "no purge has bytes left {}", where_bytes_are(&place))?,
            Scrub::Done(Scrubbed { purges, .. }) => {
                writeln!(out, "purges: {purges}; {}", describe_done(&place, &scrub))?;
            }
            Scrub::Waits(waits) => {
                writeln!(out, "bytes of purged patients are still {}: {waits}", where_bytes_are(&place))?;
            }
        }
    }
    Ok(if waits.is_none() { ExitStatus::Done } else { ExitStatus::Failed })
}

/// Names the files that a purge leaves bytes in.
pub(super) fn where_bytes_are(place: &Place) -> &'static str {
    match &place.location {
        Location::File(_) => "in the file",
        Location::Server(_) => "in the tables' files",
    }
}

/// Says what a scrub that is done has done, and what it cannot reach.
pub(super) fn describe_done(place: &Place, scrub: &Scrub) -> String {
    match (&place.location, scrub) {
        (Location::Server(server), _) => {
            format!(
                "the tables that may have held them are written anew; {}",
                describe_retention(server, Some(clock::now()))
            )
        }
        (_, Scrub::Done(Scrubbed { by: ScrubbedBy::Zeroing, pages, .. })) => {
            format!("the last bytes are gone from every file of the warehouse: {pages} pages zeroed in place")
        }
        _ => "the last bytes are gone from every file of the warehouse: written anew by VACUUM".to_owned(),
    }
}

/// Says how long a server keeps what was purged elsewhere than in its tables, which were written anew then.
pub(super) fn describe_retention(server: &Server, scrubbed_at: Option<Timestamp>) -> String {
    let kept = "its write-ahead log, replicas and backups keep what was purged";
    let retention = server.retention.and_then(|retention| TimeDelta::from_std(retention).ok());
    match retention.zip(scrubbed_at) {
        Some((retention, at)) => format!("{kept} until {} at the latest", stamp(at + retention)),
        None => format!("{kept} for as long as it is told to: warehouse.retention does not say"),
    }
}
