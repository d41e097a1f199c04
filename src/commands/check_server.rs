//! What `check` looks at where the warehouse is on a server: how it is reached, what the role may do, and what the
//! server does with what it is given.

use std::collections::BTreeMap;

use super::ExitStatus;
use super::checks::Checks;
use crate::settings::Settings;
use crate::warehouse::place::Place;
use crate::warehouse::report::{ServerPreflight, Standbys, Way};
use crate::warehouse::server_schema_version;
use crate::warehouse::workers_told::WorkerTold;

/// Tables beyond these are only counted.
const TABLES_SHOWN_MAX: usize = 5;

pub(super) fn check_server(
    settings: &Settings,
    place: &Place,
    found: &ServerPreflight,
    checks: &mut Checks<'_>,
) -> anyhow::Result<()> {
    let (schema, known) = (found.schema, server_schema_version());
    let newer = if schema > known {
        ": a newer healthex-sync has made it, which this one can work with until it is upgraded too"
    } else {
        ""
    };
    checks.ok("warehouse", &format!("{}, schema {schema} of {known}{newer}", place.location))?;
    check_way(settings, found, checks)?;
    check_rights(found, checks)?;
    check_tables(found, checks)?;
    check_workers(&found.workers, checks)?;
    check_promises(found, checks)
}

/// Says which releases share the roster, and what keeps some of them from it.
fn check_workers(workers: &[WorkerTold], checks: &mut Checks<'_>) -> anyhow::Result<()> {
    if workers.is_empty() {
        return Ok(());
    }
    let mut releases: BTreeMap<&str, u64> = BTreeMap::new();
    for worker in workers {
        *releases.entry(&worker.version).or_default() += 1;
    }
    let of_each: Vec<String> =
        releases.iter().map(|(version, count)| format!("{count} of {version}")).collect();
    let mixed =
        if releases.len() > 1 { "; an upgrade is not over: bring the others to the newest too" } else { "" };
    checks.ok("workers", &format!("in the last day {}{mixed}", of_each.join(", ")))?;
    for WorkerTold { host, pid, problem, .. } in workers {
        if let Some(problem) = problem {
            checks.ok("worker", &format!("{} (pid {pid}): {problem}", host.escape_default()))?;
        }
    }
    Ok(())
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
    let mend = if found.schema > server_schema_version() {
        "a newer healthex-sync has made them: install that one here too"
    } else {
        "`healthex-sync migrate`, run by the schema's owner, makes them; where other workers have these tables, give this one their settings instead"
    };
    let why = format!("not as this program makes them: {shown}{more}; {mend}");
    Ok(checks.failed("tables", &why, ExitStatus::WarehouseUnusable)?)
}

/// Says what a commit is worth on this server, and who else reads what is stored.
fn check_promises(found: &ServerPreflight, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    if !found.has_fsync || found.standbys.commits == "off" {
        let why = "a commit waits for no disk (fsync, synchronous_commit): a crash may bring a purge back; set both on";
        checks.failed("commits", why, ExitStatus::Failed)?;
    }
    checks.ok("standby", &describe_standbys(&found.standbys, found.tells_failovers))?;
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

/// Says what a failover would mean for what was acknowledged last.
fn describe_standbys(standbys: &Standbys, tells_failovers: bool) -> String {
    let Standbys { names, commits, connected, waited_for } = standbys;
    let waits = !matches!(commits.as_str(), "local" | "off");
    match names {
        Some(names) if waits && (*connected == 0 || *waited_for == Some(0)) => {
            format!(
                "a commit waits for {names}, and nobody of that name is there: every commit waits until somebody is"
            )
        }
        Some(names) if waits && commits == "remote_write" => format!(
            "a commit waits until {names} has it, and not for the disk there (synchronous_commit = remote_write): a failover after a loss of power may lose a purge"
        ),
        Some(names) if waits => format!("a commit waits for {names}: a failover to it loses no purge"),
        _ if *connected == 0 => {
            "none is connected: what this server's disk loses, a backup has up to when it was made".to_owned()
        }
        _ => {
            let noticed = if tells_failovers {
                "that is noticed by the timeline, each machine repeats the purges of its ledger, and everyone is asked for consent"
            } else {
                "this server does not tell its timeline, so that nobody notices: after a failover run `healthex-sync sync`, which repeats what this machine's ledger has"
            };
            let why = if names.is_some() {
                "synchronous_commit is local"
            } else {
                "synchronous_standby_names is empty"
            };
            format!(
                "{connected} connected, and a commit waits for none ({why}): a failover may lose the last seconds, and a purge in them; {noticed}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failover_may_lose_is_said_of_any_standbys() {
        let check =
            |names: Option<&str>, commits: &str, connected: i64, waited_for: Option<i64>, says: &str| {
                let names = names.map(str::to_owned);
                let standbys = Standbys { names, commits: commits.to_owned(), connected, waited_for };
                let told = describe_standbys(&standbys, true);
                assert!(told.contains(says), "{standbys:?}: {told}");
            };
        check(None, "on", 0, None, "none is connected");
        check(
            None,
            "on",
            2,
            None,
            "2 connected, and a commit waits for none (synchronous_standby_names is empty)",
        );
        check(Some("s1"), "local", 1, None, "synchronous_commit is local");
        check(Some("s1"), "off", 1, None, "a failover may lose the last seconds");
        check(Some("s1"), "on", 0, None, "every commit waits until somebody is");
        check(Some("s1"), "on", 1, Some(0), "every commit waits until somebody is");
        check(Some("s1"), "on", 1, None, "loses no purge");
        check(Some("ANY 1 (a, b)"), "remote_apply", 2, Some(2), "loses no purge");
        check(Some("s1"), "remote_write", 1, Some(1), "not for the disk there");
        let silent = Standbys { names: None, commits: "on".to_owned(), connected: 1, waited_for: None };
        assert!(describe_standbys(&silent, false).contains("does not tell its timeline"));
    }
}
