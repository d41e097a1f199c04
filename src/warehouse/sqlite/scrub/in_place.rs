//! Zeroes the file in place: looks, slices, and looks again until a look finds nothing.
//!
//! Promise: whoever else has work for the writer's thread gets it done between two slices, and a
//! look holds no lock at all. Absent on purpose: what to do when the file is refused.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::database::{Commits, commits};
use super::look::{Look, look};
use super::slice::{SliceLimits, zero_slice};
use super::walk::Remains;
use crate::machine;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::purge::ScrubWaits;
use crate::warehouse::sqlite::open::open_reader;
use crate::warehouse::sqlite::writer::Writer;

/// Looks that may find something. Two do unless others write all the while.
const LOOKS_MAX: u32 = 8;

pub(super) enum InPlace {
    /// The last look found nothing.
    Clean {
        pages: u64,
    },
    /// And why.
    Refused(String),
    Waits(ScrubWaits),
}

/// Zeroes what nothing refers to, until nothing of it is left.
pub(super) async fn zero_in_place(writer: &Writer, stop: &Arc<AtomicBool>) -> Result<InPlace, StoreFailed> {
    let mut pages = 0;
    let mut looks = 0;
    // What the file would be at if nobody else had written since the last look.
    let mut expected = None;
    while looks < LOOKS_MAX {
        let before = writer.alone(|connection| commits(connection)).await?;
        let remains = match look_aside(writer.path(), stop).await? {
            Look::Sound(remains) if remains.is_clean() => return Ok(InPlace::Clean { pages }),
            Look::Sound(remains) => Arc::new(remains),
            Look::Refused(refused) => return Ok(InPlace::Refused(refused.to_string())),
            Look::Stopped => return Ok(InPlace::Waits(ScrubWaits::Stopped)),
        };
        if expected == Some(writer.alone(|connection| commits(connection)).await?) {
            return Ok(InPlace::Refused("what was zeroed is not".to_owned()));
        }
        let zeroed = match zero_all(writer, stop, &remains).await? {
            Round::Done { pages } => pages,
            Round::Waits(waits) => return Ok(InPlace::Waits(waits)),
        };
        pages += zeroed;
        // A look that could not note everything is no look of its own.
        if !remains.is_cut() {
            looks += 1;
            expected = Some(Commits { changes: before.changes + zeroed, ..before });
        }
    }
    Ok(InPlace::Waits(ScrubWaits::Writer))
}

enum Round {
    Done { pages: u64 },
    Waits(ScrubWaits),
}

/// Zeroes what one look has found.
async fn zero_all(writer: &Writer, stop: &AtomicBool, remains: &Arc<Remains>) -> Result<Round, StoreFailed> {
    let (mut start, mut pages) = (0, 0);
    while start < remains.dirty_pages() {
        if stop.load(Ordering::Relaxed) {
            return Ok(Round::Waits(ScrubWaits::Stopped));
        }
        let work = {
            let remains = remains.clone();
            writer.alone(move |connection| zero_slice(connection, &remains, start, SliceLimits::default()))
        };
        let slice = work.await?;
        tracing::debug!(pages = slice.zeroed, moved = slice.moved, "a slice of a scrub is zeroed");
        if slice.wal_is_held {
            return Ok(Round::Waits(ScrubWaits::Reader));
        }
        start = slice.end;
        pages += slice.zeroed;
    }
    Ok(Round::Done { pages })
}

/// Looks on a connection and a thread of its own, beside the writer's.
async fn look_aside(path: &Path, stop: &Arc<AtomicBool>) -> Result<Look, StoreFailed> {
    let (path, stop) = (path.to_owned(), stop.clone());
    let work = machine::aside(move || {
        let connection = open_reader(&path).map_err(|error| StoreFailed::Engine(error.to_string()))?;
        look(&connection, || !stop.load(Ordering::Relaxed))
    });
    work.await.map_err(|_| StoreFailed::WriterGone)?
}
