//! What an onlooker sees of the warehouse: counts and who is behind, cheaply. Reads only.
//!
//! Absent on purpose: counting resources, which takes longer than a look may.

use std::path::Path;

use rusqlite::Connection;

use super::purge;
use crate::plan::since::IGNORED_TOLD;
use crate::plan::{Timestamp, parse_stamp, stamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::report::{FileSize, Overview, PatientBehind};

/// Whom the page lists.
const BEHIND: &str = "listed = 1 AND (state IN ('failing', 'held', 'not_found')
     OR (state IN ('active', 'new') AND coalesce(last_success_at, '') < ?1))";

pub(super) fn overview(
    connection: &Connection,
    path: &Path,
    behind_since: Timestamp,
    listed_max: usize,
) -> Result<Overview, StoreFailed> {
    // One snapshot for everything.
    let transaction = connection.unchecked_transaction()?;
    let mut statement = transaction.prepare("SELECT state, count(*) FROM checkpoint GROUP BY state")?;
    let states = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let oldest: Option<String> = transaction.query_row(
        "SELECT min(watermark) FROM checkpoint WHERE listed = 1 AND state IN ('active', 'failing')",
        [],
        |row| row.get(0),
    )?;
    let behind_since = stamp(behind_since);
    let count = format!("SELECT count(*) FROM checkpoint WHERE {BEHIND}");
    let behind_total = transaction.query_row(&count, [&behind_since], |row| row.get(0))?;
    let list = format!(
        "SELECT coalesce(label, person_id), state, last_success_at, failures, next_attempt_at, last_error
           FROM checkpoint WHERE {BEHIND} ORDER BY state = 'held' DESC, last_success_at LIMIT ?2"
    );
    let mut statement = transaction.prepare(&list)?;
    let behind = statement
        .query_map(rusqlite::params![behind_since, i64::try_from(listed_max).unwrap_or(i64::MAX)], |row| {
            let time = |text: Option<String>| text.as_deref().and_then(parse_stamp);
            Ok(PatientBehind {
                name: row.get(0)?,
                state: row.get(1)?,
                last_success_at: time(row.get(2)?),
                failures: row.get(3)?,
                next_attempt_at: time(row.get(4)?),
                last_error: row.get(5)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(Overview {
        states,
        oldest_watermark: oldest.as_deref().and_then(parse_stamp),
        quarantined: transaction.query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0))?,
        since_ignored: count_if_known(&transaction, "since_ignored", &format!(">= {IGNORED_TOLD}"))?,
        short: count_if_known(&transaction, "short_since", "IS NOT NULL")?,
        unscrubbed: purge::unscrubbed(&transaction)?,
        oldest_unscrubbed: purge::oldest_unscrubbed(&transaction)?,
        bytes: sizes(path),
        behind,
        behind_total,
    })
}

/// Counts patients by a column that a file of an older schema does not have.
fn count_if_known(connection: &Connection, column: &str, condition: &str) -> Result<u64, StoreFailed> {
    if !connection.column_exists(None::<&str>, "checkpoint", column)? {
        return Ok(0);
    }
    let count = format!("SELECT count(*) FROM checkpoint WHERE {column} {condition}");
    Ok(connection.query_row(&count, [], |row| row.get(0))?)
}

fn sizes(path: &Path) -> Vec<FileSize> {
    let size = |file, suffix: &str| {
        let mut path = path.as_os_str().to_owned();
        path.push(suffix);
        FileSize { file, bytes: std::fs::metadata(path).map_or(0, |found| found.len()) }
    };
    vec![size("database", ""), size("wal", "-wal")]
}
