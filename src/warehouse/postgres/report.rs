//! What `status` tells. Reads only.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::failure::Undone;
use super::purge_log;
use super::session::Session;
use super::tables::live_rows;
use super::values::{Columns, counted};
use super::{checkpoint, failover, shared_cycle};
use crate::plan::checkpoint::Checkpoint;
use crate::plan::{Timestamp, stamp};
use crate::warehouse::purge::ScrubWaits;
use crate::warehouse::report::{PatientLine, StatusReport};

/// Tells it as of the moment that the session sees.
pub(super) async fn status(session: &Session) -> Result<StatusReport, Undone> {
    let statement = "SELECT c.*, coalesce(l.resources, 0) AS resources
           FROM checkpoint AS c LEFT JOIN live_resources AS l ON l.person_id = c.person_id
          ORDER BY coalesce(c.label, c.person_id) COLLATE \"C\", c.person_id COLLATE \"C\"";
    let known = checkpoint::all(session).await?;
    let known: HashMap<&str, &Checkpoint> =
        known.iter().map(|checkpoint| (checkpoint.person.as_str(), checkpoint)).collect();
    let rows = session.rows(statement, &[]).await?;
    let patients = rows.iter().map(|row| patient_line(row, &known)).collect::<Result<_, _>>()?;
    let quarantined: i64 = session.row("SELECT count(*) FROM quarantine", &[]).await?.try_get(0)?;
    let unscrubbed = purge_log::unscrubbed(session).await?;
    Ok(StatusReport {
        patients,
        resources: live_rows(session).await?,
        quarantined: counted(quarantined),
        unscrubbed,
        scrub_waits_for: (unscrubbed > 0).then(|| ScrubWaits::Owner.to_string()),
        oldest_unscrubbed: purge_log::oldest_unscrubbed(session).await?,
        last_scrub: purge_log::last_scrub(session).await?,
        failover: failover::noted(session).await?,
        workers: Some(shared_cycle::told(session).await?),
        ..StatusReport::default()
    })
}

fn patient_line(row: &Row, known: &HashMap<&str, &Checkpoint>) -> Result<PatientLine, Undone> {
    let column = Columns(row);
    let time = |name: &str| Ok::<_, Undone>(column.get::<Option<Timestamp>>(name)?.map(stamp));
    let id: String = column.get("person_id")?;
    Ok(PatientLine {
        missing: known.get(id.as_str()).and_then(|checkpoint| checkpoint.missing),
        id,
        label: column.get("label")?,
        state: column.get("state")?,
        watermark: time("watermark")?,
        last_success_at: time("last_success_at")?,
        failures: checkpoint::small(column.get("failures")?),
        next_attempt_at: time("next_attempt_at")?,
        last_error: column.get("last_error")?,
        resources: counted(column.get("resources")?),
        sweep_guarded_at: time("sweep_guarded_at")?,
        refused_at: time("refused_at")?,
        held_why: column.get("held_why")?,
        missing_since: time("missing_since")?,
        short_by: column.get::<Option<i64>>("short_by")?.map(counted),
        short_since: time("short_since")?,
        last_full_at: time("last_full_at")?,
        deletions_seen_at: time("deletions_seen_at")?,
        since_ignored: counted(column.get("since_ignored")?),
        source: column.get("listed_by")?,
        study: None,
        consent: None,
        consent_expires_at: None,
        consent_ended_at: time("consent_ended_at")?,
        listed: column.get("listed")?,
        holds_rows: column.get("holds_rows")?,
    })
}
