//! Removes the last bytes of what was deleted, in place: every byte of the file that nothing refers
//! to becomes zero, through SQLite's own pager.
//!
//! ```text
//! look (one snapshot, no lock) ─→ slices (short transactions) ─→ look ─→ … until one finds nothing
//! ```
//!
//! Promise: all or nothing. A file that is not sound from its first to its last page is refused
//! before the first write, and VACUUM does what it always did. What is in use, what points to it and
//! what counts it stays as it is. Absent on purpose: making the file smaller, and the decision when.

mod database;
mod in_place;
mod look;
pub mod page;
mod room;
mod slice;
mod vacuum;
pub mod walk;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rusqlite::Connection;

use self::database::{Unfit, page_count, page_size, unfit};
use self::in_place::{InPlace, zero_in_place};
use self::look::{Look, look};
use self::room::room_for;
use self::vacuum::vacuum;
use super::writer::Writer;
use super::{purge, staying_reader};
use crate::plan::Timestamp;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::purge::{DiskRoom, Scrub, ScrubWaits, Scrubbed, ScrubbedBy};
use crate::warehouse::report::Pages;

pub(super) use self::room::room;

/// What a look at every page has shown.
pub(super) enum LookedThrough {
    Sound(Pages),
    Damaged(String),
}

/// What there is to do, and in which way.
enum Plan {
    Nothing,
    Waits(ScrubWaits),
    Scrub { last: i64, way: Way },
}

enum Way {
    Zeroing,
    /// And why.
    Vacuum(String),
}

/// Removes the last bytes of all purged patients. `clock` is read once they are gone. Ends soon after
/// `stop` has become true.
pub(super) async fn scrub(
    writer: &Writer,
    stop: &Arc<AtomicBool>,
    clock: fn() -> Timestamp,
) -> Result<Scrub, StoreFailed> {
    let path = writer.path().to_owned();
    let (last, way) = match writer.alone(move |connection| plan(connection, &path)).await? {
        Plan::Nothing => return Ok(Scrub::NothingToDo),
        Plan::Waits(waits) => return Ok(Scrub::Waits(waits)),
        Plan::Scrub { last, way } => (last, way),
    };
    let ended = match way {
        Way::Zeroing => zero_in_place(writer, stop).await?,
        Way::Vacuum(why) => InPlace::Refused(why),
    };
    let (by, pages) = match ended {
        InPlace::Clean { pages } => (ScrubbedBy::Zeroing, pages),
        InPlace::Waits(waits) => return Ok(Scrub::Waits(waits)),
        InPlace::Refused(why) => {
            tracing::info!("the warehouse is not zeroed in place, but written anew by VACUUM: {why}");
            let path = writer.path().to_owned();
            if let Some(waits) = writer.alone(move |connection| vacuum(connection, &path)).await? {
                return Ok(Scrub::Waits(waits));
            }
            (ScrubbedBy::Vacuum, 0)
        }
    };
    let path = writer.path().to_owned();
    writer
        .alone(move |connection| {
            if let Some(waits) = settle(connection, &path)? {
                return Ok(Scrub::Waits(waits));
            }
            let purges = purge::note_scrubbed(connection, last, by, clock())?;
            Ok(Scrub::Done(Scrubbed { purges, by, pages }))
        })
        .await
}

/// Removes the last bytes from a file that nobody else has open, such as a copy that is being made: it
/// is written anew.
pub(super) fn scrub_private(
    connection: &Connection,
    path: &Path,
    clock: fn() -> Timestamp,
) -> Result<Scrub, StoreFailed> {
    let Some(last) = purge::last_unscrubbed(connection)? else { return Ok(Scrub::NothingToDo) };
    for step in [settle, vacuum, settle] {
        if let Some(waits) = step(connection, path)? {
            return Ok(Scrub::Waits(waits));
        }
    }
    let by = ScrubbedBy::Vacuum;
    let purges = purge::note_scrubbed(connection, last, by, clock())?;
    Ok(Scrub::Done(Scrubbed { purges, by, pages: 0 }))
}

/// Returns what `status` says of purges whose last bytes are still there. Only looks.
pub(super) fn waits_for(connection: &Connection, path: &Path) -> Result<Option<String>, StoreFailed> {
    if purge::unscrubbed(connection)? == 0 {
        return Ok(None);
    }
    let room = room(connection, path)?;
    Ok(Some(match room.filter(|room| !room.is_enough()) {
        Some(room) => ScrubWaits::Room(room).to_string(),
        None => match staying_reader::find(connection, path)? {
            Some(reader) => format!("a reader that has the warehouse open since {}", reader.since),
            None => "the next cycle".to_owned(),
        },
    }))
}

/// Looks at every page for bytes that nothing refers to. Only looks.
pub(super) fn look_through(connection: &Connection) -> Result<LookedThrough, StoreFailed> {
    if let Some(unfit @ Unfit::NoModule) = unfit(connection)? {
        return Ok(LookedThrough::Sound(Pages::Unseen(unfit.to_string())));
    }
    Ok(match look(connection, || true)? {
        Look::Refused(refused) if refused.is_of_the_format() => {
            LookedThrough::Sound(Pages::Unseen(refused.to_string()))
        }
        Look::Refused(refused) => LookedThrough::Damaged(refused.to_string()),
        Look::Sound(remains) => {
            let with_remains = remains.dirty_pages() as u64;
            LookedThrough::Sound(Pages::Seen { all: u64::from(page_count(connection)?), with_remains })
        }
        Look::Stopped => LookedThrough::Sound(Pages::Unseen("stopped".to_owned())),
    })
}

fn plan(connection: &Connection, path: &Path) -> Result<Plan, StoreFailed> {
    let Some(last) = purge::last_unscrubbed(connection)? else { return Ok(Plan::Nothing) };
    let way = match unfit(connection)? {
        None => Way::Zeroing,
        Some(unfit @ Unfit::MuchIsFree) => {
            let room = room_for(connection, path, ScrubbedBy::Vacuum)?;
            // Better a file that stays large than bytes that stay.
            let is_enough = room.is_none_or(DiskRoom::is_enough);
            if is_enough { Way::Vacuum(unfit.to_string()) } else { Way::Zeroing }
        }
        Some(unfit) => Way::Vacuum(unfit.to_string()),
    };
    let by = match way {
        Way::Zeroing => ScrubbedBy::Zeroing,
        Way::Vacuum(_) => ScrubbedBy::Vacuum,
    };
    if let Some(room) = room_for(connection, path, by)?.filter(|room| !room.is_enough()) {
        return Ok(Plan::Waits(ScrubWaits::Room(room)));
    }
    if !wal_is_empty(connection)? {
        return Ok(Plan::Waits(ScrubWaits::Reader));
    }
    Ok(Plan::Scrub { last, way })
}

/// Moves what is zeroed from the WAL into the file, and returns what that waits for.
fn settle(connection: &Connection, path: &Path) -> Result<Option<ScrubWaits>, StoreFailed> {
    if !wal_is_empty(connection)? {
        return Ok(Some(ScrubWaits::Reader));
    }
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let pages = u64::from(page_count(connection)?) * page_size(connection)? as u64;
    // Else somebody has written in this very moment.
    let is_settled = length(Path::new(&wal)) == 0 && length(path) == pages;
    Ok((!is_settled).then_some(ScrubWaits::Writer))
}

/// Moves the WAL into the file and cuts it to nothing; false while a reader holds it.
pub(super) fn wal_is_empty(connection: &Connection) -> Result<bool, StoreFailed> {
    connection.busy_timeout(patience())?;
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(busy? == 0)
}

/// How long a scrub waits for a reader before it leaves the rest to the next cycle.
const PATIENCE: Duration = Duration::from_secs(1);

fn patience() -> Duration {
    // SQLite waits by the machine's clock, which no simulation moves.
    #[cfg(test)]
    if crate::simulation::stage::is_set() {
        return Duration::ZERO;
    }
    PATIENCE
}
