//! `purge`: the same erasure as after a withdrawn consent, on an operator's order.

use std::io::Write;
use std::time::{Duration, Instant};

use super::{Context, ExitStatus, place, runtime};
use crate::cli::PurgeArgs;
use crate::clock;
use crate::plan::PersonId;
use crate::plan::state::PurgeReason;
use crate::settings::Complaints;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::place::{OtherServer, Place};
use crate::warehouse::purge::Scrub;
use crate::warehouse::{Reader, Warehouse};

/// How long to wait for a cycle that holds the warehouse.
const LOCK_WAIT_MAX: Duration = Duration::from_mins(10);
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(250);

pub(super) fn purge(
    context: &Context<'_>,
    args: &PurgeArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    if !args.yes {
        return Err(Complaints::one("a purge cannot be taken back: add --yes".to_owned()).into());
    }
    let person = args
        .id
        .as_deref()
        .map(PersonId::parse)
        .transpose()
        .map_err(|error| Complaints::one(error.to_string()))?;
    let place = place(&settings);
    // A purge does not make a warehouse.
    drop(Reader::open(&place.path)?);
    let warehouse = wait_for_warehouse(&place)?;
    runtime()?.block_on(async {
        let purged = match person {
            Some(person) => {
                let missing = format!("{person}: the warehouse does not know this patient");
                let purged = warehouse.purge(&person, PurgeReason::Operator, clock::now()).await?;
                vec![purged.ok_or_else(|| Complaints::one(missing))?]
            }
            None => warehouse.purge_held(clock::now()).await?,
        };
        for patient in &purged {
            writeln!(out, "{}: {} rows removed", patient.name, patient.erased.rows())?;
        }
        if purged.is_empty() {
            writeln!(out, "no patient is held")?;
        }
        scrub(&warehouse, out).await
    })
}

fn wait_for_warehouse(place: &Place) -> Result<Warehouse, OpenFailed> {
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    let mut is_reported = false;
    loop {
        match Warehouse::open(place, OtherServer::Refuse, clock::now()) {
            Err(OpenFailed::InUse { pid, .. }) if Instant::now() < deadline => {
                if !is_reported {
                    tracing::info!("a cycle is under way (pid {pid}); waiting for its end");
                    is_reported = true;
                }
                std::thread::sleep(LOCK_POLL_INTERVAL);
            }
            opened => return opened,
        }
    }
}

async fn scrub(warehouse: &Warehouse, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    match warehouse.scrub(clock::now).await? {
        Scrub::NothingToDo => {}
        Scrub::Done { .. } => writeln!(out, "the last bytes are gone from every file of the warehouse")?,
        Scrub::Waits(waits) => writeln!(out, "bytes are still in the file: {waits}; each cycle tries again")?,
    }
    Ok(ExitStatus::Done)
}
