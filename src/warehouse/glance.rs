//! What an onlooker sees of the warehouse: counts and who is behind, cheaply. Reads only.
//!
//! Absent on purpose: counting resources, which takes longer than a look may.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::failure::StoreFailed;
use super::purge;
use crate::plan::{Timestamp, parse_stamp};

#[derive(Clone, Debug, Default)]
pub struct Glance {
    pub states: BTreeMap<String, u64>,
    /// Of those that are pulled.
    pub oldest_watermark: Option<Timestamp>,
    pub quarantined: u64,
    pub unscrubbed: u64,
    pub oldest_unscrubbed: Option<Timestamp>,
    /// Of the database and its WAL.
    pub bytes: Vec<(&'static str, u64)>,
    /// On the roster and not active, or active and not pulled since `behind_since`; the longest wait first.
    pub worrying: Vec<Worrying>,
    /// How many of these there are in all.
    pub worrying_total: u64,
}

/// A patient that somebody may want to look at.
#[derive(Clone, Debug)]
pub struct Worrying {
    pub name: String,
    pub state: String,
    pub last_success_at: Option<Timestamp>,
    pub failures: u32,
    pub next_attempt_at: Option<Timestamp>,
    pub last_error: Option<String>,
}

/// Whom the page lists.
const WORRYING: &str = "listed = 1 AND (state IN ('failing', 'held', 'not_found')
     OR (state IN ('active', 'new') AND coalesce(last_success_at, '') < ?1))";

pub fn glance(
    connection: &Connection,
    path: &Path,
    behind_since: Timestamp,
    listed_max: usize,
) -> Result<Glance, StoreFailed> {
    // One snapshot for everything.
    let transaction = connection.unchecked_transaction()?;
    let mut statement = transaction.prepare("SELECT state, count(*) FROM checkpoint GROUP BY state")?;
    let states = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let oldest: Option<String> = transaction.query_row(
        "SELECT min(watermark) FROM checkpoint WHERE listed = 1 AND state IN ('active', 'failing')",
        [],
        |row| row.get(0),
    )?;
    let behind_since = crate::plan::stamp(behind_since);
    let count = format!("SELECT count(*) FROM checkpoint WHERE {WORRYING}");
    let worrying_total = transaction.query_row(&count, [&behind_since], |row| row.get(0))?;
    let list = format!(
        "SELECT coalesce(label, person_id), state, last_success_at, failures, next_attempt_at, last_error
           FROM checkpoint WHERE {WORRYING} ORDER BY state = 'held' DESC, last_success_at LIMIT ?2"
    );
    let mut statement = transaction.prepare(&list)?;
    let worrying = statement
        .query_map(rusqlite::params![behind_since, i64::try_from(listed_max).unwrap_or(i64::MAX)], |row| {
            let time = |text: Option<String>| text.as_deref().and_then(parse_stamp);
            Ok(Worrying {
                name: row.get(0)?,
                state: row.get(1)?,
                last_success_at: time(row.get(2)?),
                failures: row.get(3)?,
                next_attempt_at: time(row.get(4)?),
                last_error: row.get(5)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(Glance {
        states,
        oldest_watermark: oldest.as_deref().and_then(parse_stamp),
        quarantined: transaction.query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0))?,
        unscrubbed: purge::unscrubbed(&transaction)?,
        oldest_unscrubbed: purge::oldest_unscrubbed(&transaction)?,
        bytes: sizes(path),
        worrying,
        worrying_total,
    })
}

fn sizes(path: &Path) -> Vec<(&'static str, u64)> {
    let size = |suffix: &str| {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        std::fs::metadata(file).map_or(0, |found| found.len())
    };
    vec![("database", size("")), ("wal", size("-wal"))]
}
