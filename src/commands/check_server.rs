//! What `check` looks at where the warehouse is on a server: how it is reached, what the role may do, and what the
//! server does with what it is given.

use super::ExitStatus;
use super::checks::Checks;
use crate::settings::Settings;
use crate::warehouse::place::Place;
use crate::warehouse::report::{ServerPreflight, Way};
use crate::warehouse::schema_version;

/// Tables beyond these are only counted.
const TABLES_SHOWN_MAX: usize = 5;

pub(super) fn check_server(
    settings: &Settings,
    place: &Place,
    found: &ServerPreflight,
    checks: &mut Checks<'_>,
) -> anyhow::Result<()> {
    let known = schema_version();
    checks.ok("warehouse", &format!("{}, schema {known} of {known}", place.location))?;
    check_way(settings, found, checks)?;
    check_rights(found, checks)?;
    check_tables(found, checks)?;
    check_promises(found, checks)
}

fn check_way(settings: &Settings, found: &ServerPreflight, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let way = match &found.way {
        Way::ThisMachine => "on this machine, in clear".to_owned(),
        Way::Tls(version) => version.clone(),
        Way::ThroughAnother => "TLS to what stands in between".to_owned(),
    };
    checks.ok("server", &format!("PostgreSQL {}, {way}", found.version))?;
    let prepared = settings.warehouse.server.as_ref().is_none_or(|server| server.prepared);
    let pooling = match (found.is_direct, prepared) {
        (true, true) => return Ok(()),
        (true, false) => {
            "statements are not prepared by name (warehouse.prepared = false), which costs a fifth"
        }
        (false, true) => {
            "the server has another port than warehouse.url: if a PgBouncer before 1.21 stands in between and lends out by the transaction, set warehouse.prepared = false"
        }
        (false, false) => {
            "the server has another port than warehouse.url; statements are not prepared by name"
        }
    };
    Ok(checks.ok("pooling", pooling)?)
}

fn check_rights(found: &ServerPreflight, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let role = &found.role;
    if !found.lacking.is_empty() {
        let why = format!(
            "{role} may not {}; `healthex-sync migrate`, run by the schema's owner, grants the worker's role what it needs",
            found.lacking.join(", nor ")
        );
        return Ok(checks.failed("rights", &why, ExitStatus::WarehouseUnusable)?);
    }
    let more = if found.may_define {
        ", and may change the tables too, which a worker need not"
    } else {
        " may read and write rows, and change no table"
    };
    checks.ok("rights", &format!("{role}{more}"))?;
    if !found.has_settings {
        let line = format!(
            "{role} is without what `migrate` sets for a worker (enable_seqscan, timeouts): a new table may be read from end to end"
        );
        checks.ok("role settings", &line)?;
    }
    Ok(())
}

fn check_tables(found: &ServerPreflight, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let other = &found.other_tables;
    if other.is_empty() {
        return Ok(());
    }
    let shown = other[..other.len().min(TABLES_SHOWN_MAX)].join(", ");
    let more = match other.len().saturating_sub(TABLES_SHOWN_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let why = format!(
        "not as this program makes them: {shown}{more}; `healthex-sync migrate`, run by the schema's owner, makes them"
    );
    Ok(checks.failed("tables", &why, ExitStatus::WarehouseUnusable)?)
}

/// Says what a commit is worth on this server, and who else reads what is stored.
fn check_promises(found: &ServerPreflight, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    if !found.has_fsync || found.commits == "off" {
        let why = "a commit waits for no disk (fsync, synchronous_commit): a crash may bring a purge back; set both on";
        checks.failed("commits", why, ExitStatus::Failed)?;
    }
    let standby = match &found.standbys {
        Some(names) => format!("a commit waits for {names}"),
        None => "none that a commit waits for: a failover may lose the last seconds, and a purge in them"
            .to_owned(),
    };
    checks.ok("standby", &standby)?;
    let checksums = if found.has_checksums {
        "on"
    } else {
        "off: a block that a disk has changed is not noticed (pg_checksums --enable, while the server is stopped)"
    };
    checks.ok("checksums", checksums)?;
    if found.logs_values {
        let line = "the server's log may hold what statements store (log_statement, log_min_duration_statement, log_parameter_max_length*): keep it as the records are kept";
        checks.ok("server's log", line)?;
    }
    Ok(())
}
