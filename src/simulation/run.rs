//! Runs a script from its beginning to its end, life by life.

use std::path::Path;
use std::time::Duration;

use super::life;
use super::log::Log;
use super::moment::Untrue;
use super::script::Script;
use super::sweeps::a_sweep_waits;
use super::truths::the_warehouse_equals_the_server;
use super::world::{Halt, World};
use crate::clock;
use crate::cycle::SyncRequest;
use crate::plan::PersonId;
use crate::stop::Stop;

/// "A full pull is due 24 hours later, which then sweeps."
const SWEEP_WAITS: Duration = Duration::from_hours(24);

/// What came of a script.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    /// Of all lines of the log, and their number.
    pub(super) log: (u64, u64),
    pub(super) failed: Option<Failed>,
}

#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) untrue: Untrue,
    pub(super) minute: u32,
    /// The last lines of the log.
    pub(super) log: Vec<String>,
}

/// How a life has ended.
enum Ended {
    Died,
    Halted(Halt),
}

/// Runs a script in a folder beneath `roots`.
pub(super) fn run(script: &Script, roots: &Path) -> Ran {
    let mut world = World::new(script.clone(), roots);
    let log = Log::new(world.folder.path().display().to_string());
    let stage = world.stage.clone();
    let _set = stage.set();
    let lived = tracing::subscriber::with_default(log.clone(), || live_through(&mut world));
    let failed = lived.err().map(|untrue| Failed { untrue, minute: world.minute(), log: log.last() });
    Ran { log: log.hash(), failed }
}

fn live_through(world: &mut World) -> Result<(), Untrue> {
    world.settle_in();
    loop {
        match in_simulated_time(world, live)? {
            Ended::Died => world.bury()?,
            Ended::Halted(Halt::Restore) => world.restore()?,
            Ended::Halted(Halt::End) => break,
        }
    }
    if let Some(problem) = world.open_problem() {
        return Err(Untrue { truth: "when faults stop, every problem is over", shows: problem });
    }
    in_simulated_time(world, resume_all)?;
    for _ in 0..2 {
        in_simulated_time(world, sync)?;
    }
    if world.judge(a_sweep_waits)? {
        in_simulated_time(world, async |world| {
            clock::sleep(SWEEP_WAITS).await;
            sync(world).await
        })?;
    }
    world.judge(the_warehouse_equals_the_server)?;
    world.judge(|moment, _| match moment.look.purges.iter().find(|purge| !purge.is_scrubbed) {
        None => Ok(()),
        Some(purge) => {
            Err(Untrue { truth: "when faults stop, the last bytes are gone", shows: purge.person.clone() })
        }
    })?;
    world.verify()
}

/// Runs something in a runtime of its own, whose clock goes on where the last one's stood.
fn in_simulated_time<T>(
    world: &mut World,
    work: impl AsyncFnOnce(&mut World) -> Result<T, Untrue>,
) -> Result<T, Untrue> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        world.stage.life_begins();
        let done = work(world).await;
        world.stage.life_ends();
        done
    })
}

async fn live(world: &mut World) -> Result<Ended, Untrue> {
    let (stage, stop) = (world.stage.clone(), Stop::default());
    let (folder, place) = (world.folder.path().to_owned(), world.place.clone());
    let daemon = life::run(&folder, place, stop.clone());
    tokio::pin!(daemon);
    let halt = tokio::select! {
        biased;
        () = stage.death() => return Ok(Ended::Died),
        ended = &mut daemon => return Err(gave_up(ended)),
        halt = world.go_on() => halt?,
    };
    stop.gently.cancel();
    tokio::select! {
        biased;
        () = stage.death() => Ok(Ended::Died),
        ended = &mut daemon => match ended {
            Ok(()) => Ok(Ended::Halted(halt)),
            ended => Err(gave_up(ended)),
        },
    }
}

fn gave_up(ended: anyhow::Result<()>) -> Untrue {
    let why = ended.map_or_else(|failed| format!("{failed:#}"), |()| "it stopped".to_owned());
    Untrue { truth: "the daemon waits for what can heal", shows: why }
}

/// Asks for everybody whom an operator has had purged, and who is to be pulled but for that.
async fn resume_all(world: &mut World) -> Result<(), Untrue> {
    let (folder, place) = (world.folder.path().to_owned(), world.place.clone());
    let named: Vec<PersonId> = world.resumed().iter().map(|id| PersonId::parse(id).unwrap()).collect();
    let request = SyncRequest { named, ..SyncRequest::default() };
    if request.named.is_empty() {
        return Ok(());
    }
    match life::sync(&folder, &place, request).await {
        Ok(_) => Ok(()),
        Err(failed) => Err(Untrue {
            truth: "who was purged by an operator can be asked for",
            shows: format!("{failed:#}"),
        }),
    }
}

async fn sync(world: &mut World) -> Result<(), Untrue> {
    let (folder, place) = (world.folder.path().to_owned(), world.place.clone());
    let request = SyncRequest { full: true, ..SyncRequest::default() };
    match life::sync(&folder, &place, request).await {
        Ok(_) => Ok(()),
        Err(failed) => {
            Err(Untrue { truth: "when faults stop, a sync succeeds", shows: format!("{failed:#}") })
        }
    }
}
