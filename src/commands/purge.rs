//! `purge`: the same erasure as after a withdrawn consent, on an operator's order.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::named::known_patient;
use super::scrub::{describe_done, where_bytes_are};
use super::summary::list_counts;
use super::sync::{Session, api};
use super::{Context, ExitStatus, place, runtime};
use crate::cli::PurgeArgs;
use crate::clock;
use crate::clock::Instant;
use crate::cycle::SyncRequest;
use crate::cycle::held::{HeldDecided, HeldUndecided, Unanswered, decide_held};
use crate::cycle::progress::Progress;
use crate::plan::PersonId;
use crate::plan::state::PurgeReason;
use crate::settings::{Complaints, Settings};
use crate::stop::Stop;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::place::{OtherServer, Place};
use crate::warehouse::purge::{PurgeAnswer, PurgeRequest, RequestProgress, Scrub, ScrubWaits};
use crate::warehouse::{LeftRequest, Reader, Warehouse};

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
    let place = place(&settings)?;
    // A purge does not make a warehouse.
    let reader = Reader::open(&place.location)?;
    let patient = args.id.as_deref().map(|named| Patient::find(&settings, &reader, named)).transpose()?;
    drop(reader);
    let by = account();
    let mut told = Told::new(out, args.json);
    let status = match patient {
        None => {
            let settings = Arc::new(settings);
            let api = api(context, &settings)?;
            runtime()?.block_on(async {
                let session = Session { settings, api, stop: Stop::on_signals()? };
                purge_held(session, &place, &by, args.expect, &mut told).await
            })?
        }
        Some(patient) => runtime()?.block_on(purge_one(&place, &patient, by, &mut told))?,
    };
    told.end()?;
    Ok(status)
}

/// Who is to be purged, and as what it was named.
pub(crate) struct Patient<'a> {
    pub(crate) person: PersonId,
    pub(crate) named: &'a str,
}

impl<'a> Patient<'a> {
    fn find(settings: &Settings, reader: &Reader, named: &'a str) -> anyhow::Result<Self> {
        Ok(Self { person: known_patient(settings, reader, named)?, named })
    }
}

/// What is told of a purge: line by line as it happens, or all of it at the end.
pub(crate) struct Told<'o> {
    out: &'o mut dyn Write,
    as_json: bool,
    report: PurgeJson,
}

#[derive(Default, Serialize)]
struct PurgeJson {
    purged: Vec<PurgedJson>,
    released: Vec<String>,
    unanswered: Vec<UnansweredJson>,
    /// Whether no byte is left in any file; `null` where the cycle under way removes the last.
    scrubbed: Option<bool>,
    scrub_waits_for: Option<String>,
}

#[derive(Serialize)]
struct PurgedJson {
    name: String,
    rows: u64,
}

#[derive(Serialize)]
struct UnansweredJson {
    name: String,
    why: String,
}

impl<'o> Told<'o> {
    pub(crate) fn new(out: &'o mut dyn Write, as_json: bool) -> Self {
        Self { out, as_json, report: PurgeJson::default() }
    }

    fn say(&mut self, line: &str) -> std::io::Result<()> {
        if self.as_json { Ok(()) } else { writeln!(self.out, "{line}") }
    }

    fn purged(&mut self, name: &str, rows: u64) -> std::io::Result<()> {
        self.report.purged.push(PurgedJson { name: name.to_owned(), rows });
        self.say(&format!("{name}: {rows} rows removed"))
    }

    fn end(self) -> anyhow::Result<()> {
        if self.as_json {
            writeln!(self.out, "{}", serde_json::to_string(&self.report)?)?;
        }
        Ok(())
    }
}

/// Purges a patient, or has it purged by the process that holds the warehouse.
pub(crate) async fn purge_one(
    place: &Place,
    patient: &Patient<'_>,
    by: String,
    told: &mut Told<'_>,
) -> anyhow::Result<ExitStatus> {
    let Patient { person, named } = patient;
    let unknown = || Complaints::one(format!("{named}: the warehouse does not know this patient"));
    let request = PurgeRequest { person: person.clone(), by, requested_at: clock::now() };
    match order(place, &request, named).await? {
        Ordered::Answered(PurgeAnswer::Purged { name, rows }) => {
            told.purged(&name, rows)?;
            told.say("the last bytes go at the end of the cycle under way")?;
            Ok(ExitStatus::Done)
        }
        Ordered::Answered(PurgeAnswer::Unknown) => Err(unknown().into()),
        Ordered::Answered(PurgeAnswer::Failed(why)) => {
            tracing::error!("{named} was not purged: {why}");
            Ok(ExitStatus::Failed)
        }
        Ordered::Free(warehouse) => {
            let (reason, by) = (PurgeReason::Operator, &request.by);
            let purged = warehouse.purge(person, reason, by, clock::now()).await?;
            let purged = purged.ok_or_else(unknown)?;
            told.purged(&purged.name, purged.erased.rows())?;
            scrub(place, &warehouse, told).await?;
            Ok(ExitStatus::Done)
        }
    }
}

/// What came of an order to purge.
enum Ordered {
    /// Whoever holds the warehouse has dealt with it.
    Answered(PurgeAnswer),
    /// Nobody holds it: the purge is this command's.
    Free(Box<Warehouse>),
}

/// Takes the warehouse, which on a server nobody is waited for; or leaves the order for the process that holds it, and
/// waits for one of the two. A command that is killed meanwhile has ordered all the same.
async fn order(place: &Place, request: &PurgeRequest, named: &str) -> Result<Ordered, OpenFailed> {
    if let Some(warehouse) = Warehouse::open_beside(place, clock::now())? {
        return Ok(Ordered::Free(Box::new(warehouse)));
    }
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    let mut left: Option<LeftRequest> = None;
    let mut is_reported = false;
    loop {
        let opened = Warehouse::open(place, OtherServer::Refuse, clock::now());
        if let Some(RequestProgress::Answered(answer)) = left.as_ref().map(LeftRequest::progress) {
            left.take().map(LeftRequest::withdraw);
            return Ok(Ordered::Answered(answer));
        }
        match opened {
            Err(OpenFailed::InUse { pid, .. }) if Instant::now() < deadline => {
                if !is_reported {
                    is_reported = true;
                    left = leave(place, request, named, &pid);
                }
                clock::sleep(LOCK_POLL_INTERVAL).await;
            }
            Err(failed) => {
                if left.take().is_some_and(|left| !left.withdraw()) {
                    tracing::warn!("the purge may be under way all the same; `healthex-sync audit` tells");
                }
                return Err(failed);
            }
            Ok(warehouse) => {
                // Else the next cycle would do it once more, to what may be there by then.
                LeftRequest::take_over(place, &request.person);
                return Ok(Ordered::Free(Box::new(warehouse)));
            }
        }
    }
}

/// Leaves the order. Where that cannot be, the end of the cycle is waited for.
fn leave(place: &Place, request: &PurgeRequest, named: &str, pid: &str) -> Option<LeftRequest> {
    match LeftRequest::leave(place, request) {
        Ok(left) => {
            tracing::info!("a cycle is under way (pid {pid}), and is told to purge {named} now");
            Some(left)
        }
        Err(failed) => {
            tracing::warn!("a cycle is under way (pid {pid}), and its end is waited for: {failed}");
            None
        }
    }
}

/// Purges the held patients that are refused still.
pub(crate) async fn purge_held(
    session: Session,
    place: &Place,
    by: &str,
    expected: Option<usize>,
    told: &mut Told<'_>,
) -> anyhow::Result<ExitStatus> {
    let warehouse = match Warehouse::open_beside(place, clock::now())? {
        Some(beside) => Arc::new(beside),
        None => Arc::new(wait_for_warehouse(place).await?),
    };
    let (progress, _) = watch::channel(Progress::default());
    let cycle = session.cycle(warehouse.clone(), progress, SyncRequest::default());
    let decided = match decide_held(&cycle, by, expected).await {
        Err(failed @ HeldUndecided::NotAsExpected { .. }) => {
            return Err(Complaints::one(failed.to_string()).into());
        }
        decided => decided?,
    };
    let HeldDecided { purged, released, unanswered } = &decided;
    for patient in purged {
        told.purged(&patient.name, patient.erased.rows())?;
    }
    for name in released {
        told.say(&format!("{name}: permitted again, released"))?;
        told.report.released.push(name.clone());
    }
    for Unanswered { name, why } in unanswered {
        told.say(&format!("{name}: still held, because it could not be asked: {why}"))?;
        told.report.unanswered.push(UnansweredJson { name: name.clone(), why: why.clone() });
    }
    let counts = [(purged.len(), "purged"), (released.len(), "released"), (unanswered.len(), "still held")];
    let counts = counts.map(|(count, what)| (count as u64, what));
    if counts.iter().all(|(count, _)| *count == 0) {
        told.say("no patient is held")?;
    } else {
        told.say(&list_counts(&counts))?;
    }
    scrub(place, &warehouse, told).await?;
    Ok(if unanswered.is_empty() { ExitStatus::Done } else { ExitStatus::SomePatientsFailed })
}

/// Returns the name of the account that runs this, for the purge log.
fn account() -> String {
    let behind_sudo = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    let by_id = || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    behind_sudo.or_else(by_id).unwrap_or_else(|| format!("uid {}", nix::unistd::geteuid()))
}

async fn wait_for_warehouse(place: &Place) -> Result<Warehouse, OpenFailed> {
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    let mut is_reported = false;
    loop {
        match Warehouse::open(place, OtherServer::Refuse, clock::now()) {
            Err(OpenFailed::InUse { pid, .. }) if Instant::now() < deadline => {
                if !is_reported {
                    tracing::info!("a cycle is under way (pid {pid}); waiting for its end");
                    is_reported = true;
                }
                clock::sleep(LOCK_POLL_INTERVAL).await;
            }
            opened => return opened,
        }
    }
}

async fn scrub(place: &Place, warehouse: &Warehouse, told: &mut Told<'_>) -> anyhow::Result<()> {
    let scrubbed = warehouse.scrub(clock::now).await?;
    told.report.scrubbed = Some(!matches!(scrubbed, Scrub::Waits(_)));
    match &scrubbed {
        Scrub::NothingToDo => {}
        Scrub::Done(_) => told.say(&describe_done(place, &scrubbed))?,
        Scrub::Waits(waits) => {
            told.report.scrub_waits_for = Some(waits.to_string());
            let again = if matches!(waits, ScrubWaits::Owner) { "" } else { "; each cycle tries again" };
            told.say(&format!("bytes are still {}: {waits}{again}", where_bytes_are(place)))?;
        }
    }
    Ok(())
}
