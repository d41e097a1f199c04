//! What must be true of a sound warehouse, as a list of checks. Reads only.
//!
//! SQLite has no checksums: a flipped bit in a payload passes its own check, so every row is
//! held against its hash.

use std::collections::HashSet;

use rusqlite::Connection;

use super::analyst_tables::AnalystTables;
use super::scrub::LookedThrough;
use super::{freshness, scrub, tables};
use crate::plan::Timestamp;
use crate::plan::resource_type::ResourceType;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::report::{Findings, VerifyDepth};
use crate::warehouse::soundness::{StoredRow, left_of_revoked, miscounted, pull_fault, stale};

pub(super) fn verify(
    connection: &Connection,
    analyst_tables: &AnalystTables,
    depth: VerifyDepth,
    now: Timestamp,
) -> Result<Findings, StoreFailed> {
    let mut findings = Findings::default();
    let transaction = connection.unchecked_transaction()?;
    check_integrity(&transaction, &mut findings)?;
    let types_with_history = types_with_history(&transaction)?;
    for known in tables::resource_tables(&transaction)? {
        check_rows(&transaction, known, &format!("\"{}\"", known.table), &mut findings)?;
        if types_with_history.contains(known.name) {
            let former = format!("history WHERE type = '{}'", known.name);
            check_rows(&transaction, known, &former, &mut findings)?;
        }
    }
    check_revoked(&transaction, &mut findings)?;
    check_pull_columns(&transaction, &mut findings)?;
    check_analyst_tables(&transaction, analyst_tables, now, &mut findings)?;
    transaction.commit()?;
    if depth == VerifyDepth::Pages {
        check_pages(connection, &mut findings)?;
    }
    Ok(findings)
}

/// A warehouse that the next cycle migrates has no former versions.
fn types_with_history(connection: &Connection) -> Result<HashSet<String>, StoreFailed> {
    if !tables::exists(connection, "history")? {
        return Ok(HashSet::new());
    }
    let mut statement = connection.prepare("SELECT DISTINCT type FROM history")?;
    let types = statement.query_map([], |row| row.get(0))?;
    Ok(types.collect::<Result<_, _>>()?)
}

fn check_integrity(connection: &Connection, findings: &mut Findings) -> Result<(), StoreFailed> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            findings.add(format!("integrity_check: {line}"));
        }
    }
    Ok(())
}

/// What is left of rows that are gone is no finding: the next scrub removes it.
fn check_pages(connection: &Connection, findings: &mut Findings) -> Result<(), StoreFailed> {
    findings.pages = match scrub::look_through(connection)? {
        LookedThrough::Sound(pages) => Some(pages),
        LookedThrough::Damaged(what) => {
            findings.add(format!("the file: {what}"));
            None
        }
    };
    Ok(())
}

fn check_rows(
    connection: &Connection,
    known: &ResourceType,
    rows: &str,
    findings: &mut Findings,
) -> Result<(), StoreFailed> {
    let table = &known.table;
    let mut statement = connection.prepare(&format!(
        "SELECT person_id, key, id, version_id, last_updated, source, patient, content_hash, resource FROM {rows}"
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        findings.rows += 1;
        let (person, key): (String, String) = (row.get(0)?, row.get(1)?);
        let Ok(resource) = row.get::<_, String>(8) else {
            findings.add(format!("{table} {person} {key}: resource is not text"));
            continue;
        };
        let content_hash: Vec<u8> = row.get(7)?;
        let columns = [row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?];
        let (person, key) = (person.as_str(), key.as_str());
        let stored = StoredRow { person, key, content_hash: &content_hash, columns, resource: &resource };
        if let Some(fault) = stored.fault(known) {
            findings.add(fault);
        }
    }
    Ok(())
}

/// Each stored view against a fresh evaluation, and the counts of `freshness`.
fn check_analyst_tables(
    connection: &Connection,
    views: &AnalystTables,
    now: Timestamp,
    findings: &mut Findings,
) -> Result<(), StoreFailed> {
    if !tables::exists(connection, "analyst_table")? {
        return Ok(());
    }
    for name in views.stale_tables(connection, now)? {
        findings.add(stale(&name));
    }
    for person in freshness::miscounted(connection)? {
        findings.add(miscounted(&person));
    }
    Ok(())
}

fn check_revoked(connection: &Connection, findings: &mut Findings) -> Result<(), StoreFailed> {
    // That somebody was asked again since is no row of theirs.
    for table in tables::purged_tables(connection)?.into_iter().filter(|table| table != "pull") {
        // Nor is a consent that was given again, before anything is pulled.
        let counted = if table == "consent_record" { "t.consented = 0" } else { "1" };
        let mut statement = connection.prepare(&format!(
            "SELECT c.person_id, count(*) FROM \"{table}\" AS t JOIN checkpoint AS c ON c.person_id = t.person_id
              WHERE c.state = 'revoked' AND {counted} GROUP BY c.person_id"
        ))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (person, count): (String, u64) = (row.get(0)?, row.get(1)?);
            findings.add(left_of_revoked(&table, count, &person));
        }
    }
    Ok(())
}

fn check_pull_columns(connection: &Connection, findings: &mut Findings) -> Result<(), StoreFailed> {
    let mut statement = connection.prepare(include_str!("../../../schema/pull_faults.sql"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (person, what): (String, String) = (row.get(0)?, row.get(1)?);
        findings.add(pull_fault(&person, &what));
    }
    Ok(())
}
