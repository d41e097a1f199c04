//! What `status` and `audit` tell. Reads only.

use rusqlite::Connection;

use super::columns::{Columns, NamedRow};
use super::tables::LiveRows;
use super::{checkpoint, tables};
use crate::plan::leaver::ListedBy;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::purge::ScrubbedBy;
use crate::warehouse::report::{LastScrub, PatientLine, PurgeLine, StatusReport};

pub(super) fn status(connection: &Connection) -> Result<StatusReport, StoreFailed> {
    // One snapshot for everything that is counted.
    let transaction = connection.unchecked_transaction()?;
    let live = tables::live_rows(&transaction)?;
    let mut statement =
        transaction.prepare("SELECT * FROM checkpoint ORDER BY coalesce(label, person_id), person_id")?;
    let columns = Columns::of(&statement);
    let mut rows = statement.query([])?;
    let mut patients = Vec::new();
    while let Some(row) = rows.next()? {
        patients.push(patient_line(columns.row(row), &live)?);
    }
    let quarantined = transaction.query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0))?;
    let unscrubbed = super::purge::unscrubbed(&transaction)?;
    let last_scrub = last_scrub(&transaction)?;
    let resources = live.by_table;
    let oldest_unscrubbed = super::purge::oldest_unscrubbed(&transaction)?;
    Ok(StatusReport {
        patients,
        resources,
        quarantined,
        unscrubbed,
        oldest_unscrubbed,
        last_scrub,
        ..StatusReport::default()
    })
}

fn last_scrub(connection: &Connection) -> Result<Option<LastScrub>, StoreFailed> {
    let last =
        "SELECT * FROM purge_log WHERE scrubbed_at IS NOT NULL ORDER BY scrubbed_at DESC, id DESC LIMIT 1";
    let mut statement = connection.prepare(last)?;
    let columns = Columns::of(&statement);
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()?.map(|row| columns.row(row)) else { return Ok(None) };
    // In a file of an older schema there was one way.
    let by = row.get_new("scrubbed_by")?.unwrap_or_else(|| ScrubbedBy::Vacuum.as_str().to_owned());
    Ok(Some(LastScrub { at: row.get("scrubbed_at")?, by }))
}

fn patient_line(row: NamedRow<'_, '_>, live: &LiveRows) -> Result<PatientLine, StoreFailed> {
    let id: String = row.get("person_id")?;
    Ok(PatientLine {
        resources: live.by_person.get(&id).copied().unwrap_or_default(),
        id,
        label: row.get("label")?,
        state: row.get("state")?,
        watermark: row.get("watermark")?,
        last_success_at: row.get("last_success_at")?,
        failures: row.get("failures")?,
        next_attempt_at: row.get("next_attempt_at")?,
        last_error: row.get("last_error")?,
        sweep_guarded_at: row.get("sweep_guarded_at")?,
        refused_at: row.get_new("refused_at")?,
        held_why: row.get_new("held_why")?,
        short_by: row.get_new("short_by")?,
        short_since: row.get_new("short_since")?,
        last_full_at: row.get("last_full_at")?,
        deletions_seen_at: row.get_new("deletions_seen_at")?,
        since_ignored: row.get_new("since_ignored")?.unwrap_or_default(),
        missing_since: row.get_new("missing_since")?,
        missing: checkpoint::missing(row)?,
        source: row.get_new("listed_by")?.unwrap_or_else(|| ListedBy::File.as_str().to_owned()),
        consent_ended_at: row.get_new("consent_ended_at")?,
        study: None,
        consent: None,
        consent_expires_at: None,
        listed: row.get("listed")?,
        holds_rows: checkpoint::holds_rows(row)?,
    })
}

pub(super) fn purges(connection: &Connection, person: Option<&str>) -> Result<Vec<PurgeLine>, StoreFailed> {
    let mut statement = connection.prepare(
        "SELECT p.*, c.label AS patient_label
           FROM purge_log AS p LEFT JOIN checkpoint AS c ON c.person_id = p.person_id
          WHERE ?1 IS NULL OR p.person_id = ?1 ORDER BY p.id",
    )?;
    let columns = Columns::of(&statement);
    let lines = statement
        .query_map([person], |row| {
            let row = columns.row(row);
            let rows: String = row.get("rows_by_table")?;
            Ok(PurgeLine {
                person_id: row.get("person_id")?,
                label: row.get("patient_label")?,
                reason: row.get("reason")?,
                by: row.get_new("by")?.unwrap_or_else(|| "healthex-sync".to_owned()),
                refused_at: row.get_new("refused_at")?,
                confirmed_at: row.get("confirmed_at")?,
                purged_at: row.get("purged_at")?,
                scrubbed_at: row.get("scrubbed_at")?,
                scrubbed_by: row.get_new("scrubbed_by")?,
                first_row_at: row.get_new("first_row_at")?,
                carried_out_at: row.get_new("carried_out_at")?,
                rows_by_table: serde_json::from_str(&rows).unwrap_or_default(),
                copies: None,
            })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(lines)
}

/// The rows of a query as text, the names of the columns first.
pub(super) fn query(connection: &Connection, statement: &str) -> Result<Vec<Vec<String>>, StoreFailed> {
    let mut statement = connection.prepare(statement)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let columns = names.len();
    let mut table = vec![names];
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let cells =
            (0..columns).map(|column| row.get_ref(column).map(as_text)).collect::<Result<Vec<_>, _>>()?;
        table.push(cells);
    }
    Ok(table)
}

fn as_text(value: rusqlite::types::ValueRef<'_>) -> String {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}
