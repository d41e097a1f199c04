//! Marks what a complete full pull no longer held, in the transaction that ends it.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};

use super::analyst_tables::Changes;
use super::history::{Content, History};
use super::removed::RemovedRow;
use super::{removed, tables};
use crate::plan::due::guard_expired;
use crate::plan::identity::{Identity, KeyHash};
use crate::plan::resource_type::ResourceType;
use crate::plan::sweep::{SweepFacts, SweepVerdict, judge_sweep};
use crate::plan::{PersonId, Timestamp, TypeFilter, parse_stamp, stamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::SweepRequest;
use crate::warehouse::pull::PullHead;

pub(super) enum Swept {
    Marked { deleted: u64 },
    WalkAgain,
    Guarded { unseen: u64 },
}

/// Rows of one table that no walk saw.
struct Unseen {
    table: &'static str,
    /// Their type and id live on under a key that was not known beside theirs.
    renamed: Vec<i64>,
    vanished: Vec<i64>,
}

pub(super) fn run(
    connection: &Connection,
    head: &PullHead,
    request: &SweepRequest,
    quarantined: u64,
    now: Timestamp,
    changes: &mut Changes<'_>,
) -> Result<Swept, StoreFailed> {
    if holds_nothing_else(connection, &head.person, request, quarantined)? {
        return settle(connection, head, request, &[], &[], now, changes);
    }
    let judged = judge(connection, head, request, now)?;
    match judged.verdict {
        SweepVerdict::WalkAgain => Ok(Swept::WalkAgain),
        SweepVerdict::Guard => {
            set_guard(connection, &head.person, Some(judged.guarded_since.unwrap_or(now)))?;
            Ok(Swept::Guarded { unseen: judged.facts.unseen })
        }
        SweepVerdict::Mark => {
            let Judged { unseen, tables_with_twins, .. } = judged;
            settle(connection, head, request, &unseen, &tables_with_twins, now, changes)
        }
    }
}

/// Returns whether the rows of the patient are those that the walk has brought, and no others. They are
/// counted by their index and not read. `quarantined` entries of the last batch are not among them.
fn holds_nothing_else(
    connection: &Connection,
    person: &PersonId,
    request: &SweepRequest,
    quarantined: u64,
) -> Result<bool, StoreFailed> {
    let Some(arrived) = request.arrived else { return Ok(false) };
    let mut rows: u64 = 0;
    for known in tables::resource_tables(connection)? {
        rows += tables::rows_of(connection, &known.table, person.as_str())?;
    }
    Ok(rows == arrived.saturating_sub(quarantined))
}

fn settle(
    connection: &Connection,
    head: &PullHead,
    request: &SweepRequest,
    unseen: &[Unseen],
    tables_with_twins: &[&str],
    now: Timestamp,
    changes: &mut Changes<'_>,
) -> Result<Swept, StoreFailed> {
    set_guard(connection, &head.person, None)?;
    forget_quarantined(connection, head, &request.seen)?;
    let swept = mark(connection, &head.person, unseen, now, changes)?;
    note_twins(connection, head, tables_with_twins)?;
    Ok(swept)
}

fn set_guard(
    connection: &Connection,
    person: &PersonId,
    since: Option<Timestamp>,
) -> Result<(), StoreFailed> {
    let statement = "UPDATE checkpoint SET sweep_guarded_at = ?2
                      WHERE person_id = ?1 AND sweep_guarded_at IS NOT ?2";
    connection.prepare_cached(statement)?.execute(params![person.as_str(), since.map(stamp)])?;
    Ok(())
}

/// What a sweep would do, and on which rows.
pub(super) struct Judged {
    pub(super) verdict: SweepVerdict,
    pub(super) facts: SweepFacts,
    unseen: Vec<Unseen>,
    tables_with_twins: Vec<&'static str>,
    guarded_since: Option<Timestamp>,
}

/// Only reads: a dry run asks too.
pub(super) fn judge(
    connection: &Connection,
    head: &PullHead,
    request: &SweepRequest,
    now: Timestamp,
) -> Result<Judged, StoreFailed> {
    let found = find_unseen(connection, &head.person, &head.types, &request.seen)?;
    let guarded_since: Option<String> = connection
        .query_row(
            "SELECT sweep_guarded_at FROM checkpoint WHERE person_id = ?1",
            [head.person.as_str()],
            |row| row.get(0),
        )
        .optional()?
        .flatten();
    let guarded_since = guarded_since.as_deref().and_then(parse_stamp);
    let Found { unseen, tables_with_twins, live, live_clinical } = found;
    let vanished = |table: &Unseen| table.vanished.len() as u64;
    let facts = SweepFacts {
        unseen: unseen.iter().map(vanished).sum(),
        unseen_clinical: unseen.iter().filter(|table| is_clinical(table.table)).map(vanished).sum(),
        live,
        live_clinical,
        walk: request.walk,
        guard_expired: guarded_since.is_some_and(|since| guard_expired(since, now)),
    };
    Ok(Judged { verdict: judge_sweep(facts), facts, unseen, tables_with_twins, guarded_since })
}

/// What is left of a record that has been emptied.
fn is_clinical(table: &str) -> bool {
    !matches!(table, "person" | "patient")
}

#[derive(Default)]
struct Found {
    unseen: Vec<Unseen>,
    /// Tables in which two live rows have one id.
    tables_with_twins: Vec<&'static str>,
    /// Live rows of the patient in all tables, renamed ones left out.
    live: u64,
    /// Those of the types asked for, without the Person and Patients.
    live_clinical: u64,
}

fn find_unseen(
    connection: &Connection,
    person: &PersonId,
    types: &TypeFilter,
    seen: &[HashSet<KeyHash>],
) -> Result<Found, StoreFailed> {
    let mut found = Found::default();
    let all = tables::resource_tables(connection)?;
    let (asked, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|known| is_asked(types, known));
    let mut with_unseen = false;
    for known in &asked {
        let glance = glance(connection, &known.table, person, seen)?;
        with_unseen |= glance.has_unseen;
        found.tables_with_twins.extend(glance.has_twins.then_some(known.table.as_str()));
    }
    if !with_unseen {
        return Ok(found);
    }
    for known in others {
        found.live += tables::live_rows_of(connection, &known.table, person.as_str())?;
    }
    let protected = quarantined_keys(connection, person)?;
    for known in asked {
        let Looked { unseen, live } = unseen_in(connection, &known.table, person, seen, &protected)?;
        found.live += live;
        found.live_clinical += if is_clinical(&known.table) { live } else { 0 };
        if !(unseen.renamed.is_empty() && unseen.vanished.is_empty()) {
            found.unseen.push(unseen);
        }
    }
    Ok(found)
}

fn is_asked(types: &TypeFilter, known: &ResourceType) -> bool {
    types.is_everything() || types.types().iter().any(|name| name == known.name)
}

struct Glance {
    /// A row, be it live or not, that no walk saw. Mostly there is none.
    has_unseen: bool,
    has_twins: bool,
}

fn glance(
    connection: &Connection,
    table: &'static str,
    person: &PersonId,
    seen: &[HashSet<KeyHash>],
) -> Result<Glance, StoreFailed> {
    let statement = format!("SELECT key, id, deleted_at IS NULL FROM \"{table}\" WHERE person_id = ?1");
    let mut statement = connection.prepare_cached(&statement)?;
    let mut rows = statement.query([person.as_str()])?;
    let mut ids = HashSet::new();
    let mut glance = Glance { has_unseen: false, has_twins: false };
    while let Some(row) = rows.next()? {
        let key = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let id = row.get_ref(1)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        glance.has_unseen |= !Identity::was_seen(key, table, id, seen);
        if let Some(id) = id
            && row.get(2)?
        {
            glance.has_twins |= !ids.insert(Identity { name: "", table, id: Some(id) }.hash());
        }
    }
    Ok(glance)
}

struct Looked {
    unseen: Unseen,
    live: u64,
}

fn unseen_in(
    connection: &Connection,
    table: &'static str,
    person: &PersonId,
    seen: &[HashSet<KeyHash>],
    protected: &HashSet<String>,
) -> Result<Looked, StoreFailed> {
    let statement = format!(
        "SELECT rowid, key, id, superseded_at IS NOT NULL FROM \"{table}\"
          WHERE person_id = ?1 AND deleted_at IS NULL"
    );
    let mut statement = connection.prepare_cached(&statement)?;
    let mut rows = statement.query([person.as_str()])?;
    let twins = twins(connection, table, person)?;
    let mut unseen: Vec<(i64, String, Option<String>)> = Vec::new();
    // By id, whether all keys that were seen are known to be twins.
    let mut brought: HashMap<String, bool> = HashMap::new();
    let mut live = 0;
    while let Some(row) = rows.next()? {
        live += 1;
        let (key, id): (String, Option<String>) = (row.get(1)?, row.get(2)?);
        if Identity::was_seen(&key, table, id.as_deref(), seen) {
            if let Some(id) = id {
                *brought.entry(id).or_insert(true) &= twins.contains(&key);
            }
        } else if row.get(3)? && is_quarantined(&key, table, id.as_deref(), protected) {
            // Its new version is there, and cannot be read.
        } else {
            unseen.push((row.get(0)?, key, id));
        }
    }
    let mut found = Unseen { table, renamed: Vec::new(), vanished: Vec::new() };
    for (rowid, key, id) in unseen {
        let lives_on = id.and_then(|id| brought.get(&id));
        match lives_on {
            Some(all_twins) if !(*all_twins && twins.contains(&key)) => found.renamed.push(rowid),
            _ => found.vanished.push(rowid),
        }
    }
    live -= found.renamed.len() as u64;
    Ok(Looked { unseen: found, live })
}

fn is_quarantined(key: &str, table: &str, id: Option<&str>, quarantined: &HashSet<String>) -> bool {
    Identity::of_stored(key, table, id)
        .any(|it| quarantined.contains(it.name) || quarantined.contains(&it.key_with_id()))
}

fn quarantined_keys(connection: &Connection, person: &PersonId) -> Result<HashSet<String>, StoreFailed> {
    let mut statement = connection.prepare_cached("SELECT key FROM quarantine WHERE person_id = ?1")?;
    let keys = statement.query_map([person.as_str()], |row| row.get(0))?;
    Ok(keys.collect::<Result<_, _>>()?)
}

fn twins(connection: &Connection, table: &str, person: &PersonId) -> Result<HashSet<String>, StoreFailed> {
    let statement = "SELECT key FROM twin WHERE person_id = ?1 AND type = ?2";
    let mut statement = connection.prepare_cached(statement)?;
    let keys = statement.query_map([person.as_str(), table], |row| row.get(0))?;
    Ok(keys.collect::<Result<_, _>>()?)
}

/// Notes which things of one type and id the server has side by side.
fn note_twins(connection: &Connection, head: &PullHead, tables: &[&str]) -> Result<(), StoreFailed> {
    let person = head.person.as_str();
    let mut known = connection.prepare_cached("SELECT DISTINCT type FROM twin WHERE person_id = ?1")?;
    let known = known.query_map([person], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let is_asked =
        |table: &str| ResourceType::by_table(table).is_some_and(|known| is_asked(&head.types, known));
    for table in known.iter().filter(|table| is_asked(table)) {
        connection
            .prepare_cached("DELETE FROM twin WHERE person_id = ?1 AND type = ?2")?
            .execute([person, table])?;
    }
    for table in tables {
        let statement = tables::fill_in(include_str!("../../../schema/note_twins.sql"), table);
        connection.prepare_cached(&statement)?.execute([person, table])?;
    }
    Ok(())
}

fn mark(
    connection: &Connection,
    person: &PersonId,
    unseen: &[Unseen],
    now: Timestamp,
    changes: &mut Changes<'_>,
) -> Result<Swept, StoreFailed> {
    let mut deleted = 0;
    for Unseen { table, renamed, vanished } in unseen {
        let mut marking = connection.prepare_cached(&format!(
            "UPDATE \"{table}\" SET deleted_at = ?2 WHERE rowid = ?1 RETURNING key"
        ))?;
        for rowid in vanished {
            changes.gone(table, marking.query_row(params![rowid, stamp(now)], |row| row.get(0))?);
            deleted += 1;
        }
        for row in remove_renamed(connection, person, table, renamed, changes.history, now)? {
            removed::note(connection, table, person, &row, now)?;
            changes.gone(table, row.key);
        }
    }
    Ok(Swept::Marked { deleted })
}

/// Removes rows whose entries live on under another key. What no other row says is a former version.
fn remove_renamed(
    connection: &Connection,
    person: &PersonId,
    table: &str,
    renamed: &[i64],
    history: History,
    now: Timestamp,
) -> Result<Vec<RemovedRow>, StoreFailed> {
    if renamed.is_empty() {
        return Ok(Vec::new());
    }
    let mut contents = history.contents(connection, table, person.as_str())?;
    let find = format!("SELECT key, id, content_hash FROM \"{table}\" WHERE rowid = ?1");
    let (mut find, mut remove) = (
        connection.prepare_cached(&find)?,
        connection.prepare_cached(&format!("DELETE FROM \"{table}\" WHERE rowid = ?1"))?,
    );
    let mut removed = Vec::new();
    for rowid in renamed {
        let (row, content_hash) = find.query_row([rowid], |row| {
            Ok((RemovedRow { key: row.get(0)?, id: row.get(1)? }, row.get::<_, [u8; 16]>(2)?))
        })?;
        let content = row.id.clone().map(|id| Content { id, content_hash });
        if let Some(rows) = content.and_then(|content| contents.get_mut(&content)) {
            *rows -= 1;
            if *rows == 0 {
                history.keep(connection, table, person.as_str(), &row.key, &stamp(now))?;
            }
        }
        remove.execute([rowid])?;
        removed.push(row);
    }
    Ok(removed)
}

/// A quarantined entry that the whole record no longer holds has been mended or removed.
fn forget_quarantined(
    connection: &Connection,
    head: &PullHead,
    seen: &[HashSet<KeyHash>],
) -> Result<(), StoreFailed> {
    if !head.types.is_everything() {
        return Ok(());
    }
    let person = head.person.as_str();
    let mut statement =
        connection.prepare_cached("SELECT rowid, identity FROM quarantine WHERE person_id = ?1")?;
    let entries = statement
        .query_map([person], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, Option<i64>)>, _>>()?;
    for (rowid, identity) in entries {
        let is_there = |identity: i64| seen.iter().any(|walk| walk.contains(&identity.cast_unsigned()));
        if !identity.is_some_and(is_there) {
            connection.prepare_cached("DELETE FROM quarantine WHERE rowid = ?1")?.execute([rowid])?;
        }
    }
    Ok(())
}
