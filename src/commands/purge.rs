//! `purge`: the same erasure as after a withdrawn consent, on an operator's order.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Context, ExitStatus, place, runtime};
use crate::cli::PurgeArgs;
use crate::clock;
use crate::plan::{PatientState, PersonId, Timestamp};
use crate::settings::Complaints;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::lock::{Lock, LockFor};
use crate::warehouse::open::OtherServer;
use crate::warehouse::purge::{Erased, PurgeReason, Scrub};
use crate::warehouse::writer::Warehouse;
use crate::warehouse::{checkpoint, open, purge};

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
    drop(open::open_reader(&place.path)?);
    let _lock = wait_for_lock(&place.path)?;
    let warehouse = Arc::new(Warehouse::open(&place, OtherServer::Refuse)?);
    runtime()?.block_on(async {
        let erased = match person {
            Some(person) => {
                let missing = format!("{person}: the warehouse does not know this patient");
                erase_one(&warehouse, person).await?.ok_or_else(|| Complaints::one(missing))?
            }
            None => erase_held(&warehouse).await?,
        };
        for (name, erased) in &erased {
            writeln!(out, "{name}: {} rows removed", erased.rows())?;
        }
        if erased.is_empty() {
            writeln!(out, "no patient is held")?;
        }
        scrub(&warehouse, out).await
    })
}

fn wait_for_lock(path: &std::path::Path) -> Result<Lock, OpenFailed> {
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    let mut is_reported = false;
    loop {
        match Lock::take(path, LockFor::Writing) {
            Err(OpenFailed::InUse { pid, .. }) if Instant::now() < deadline => {
                if !is_reported {
                    tracing::info!("a cycle is under way (pid {pid}); waiting for its end");
                    is_reported = true;
                }
                std::thread::sleep(LOCK_POLL_INTERVAL);
            }
            taken => return taken,
        }
    }
}

type ErasedPatients = Vec<(String, Erased)>;

async fn erase_one(warehouse: &Warehouse, person: PersonId) -> Result<Option<ErasedPatients>, StoreFailed> {
    warehouse
        .write(move |connection| {
            let Some(patient) = checkpoint::one(connection, &person)? else { return Ok(None) };
            let now = clock::now();
            let erased = purge::erase(connection, &person, PurgeReason::Operator, now, now)?;
            Ok(Some(vec![(patient.label.unwrap_or_else(|| person.to_string()), erased)]))
        })
        .await
}

async fn erase_held(warehouse: &Warehouse) -> Result<ErasedPatients, StoreFailed> {
    warehouse
        .write(|connection| {
            let mut erased = Vec::new();
            for patient in checkpoint::all(connection)? {
                if patient.standing.state == PatientState::Held {
                    let now = clock::now();
                    // The second 403 was the last that the server said.
                    let confirmed_at: Timestamp = patient.standing.last_asked_at.unwrap_or(now);
                    let gone = purge::erase(
                        connection,
                        &patient.person,
                        PurgeReason::ConsentRevoked,
                        confirmed_at,
                        now,
                    )?;
                    erased.push((patient.label.unwrap_or_else(|| patient.person.to_string()), gone));
                }
            }
            Ok(erased)
        })
        .await
}

async fn scrub(warehouse: &Warehouse, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let path = warehouse.path().to_owned();
    match warehouse.alone(move |connection| purge::scrub(connection, &path, clock::now)).await? {
        Scrub::NothingToDo => {}
        Scrub::Done { .. } => writeln!(out, "the last bytes are gone from every file of the warehouse")?,
        Scrub::Waits(waits) => writeln!(out, "bytes are still in the file: {waits}; each cycle tries again")?,
    }
    Ok(ExitStatus::Done)
}
