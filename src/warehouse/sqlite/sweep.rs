//! Marks what a complete full pull no longer held, in the transaction that ends it.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::history::Content;
use super::removed::RemovedRow;
use super::{history, removed, tables};
use crate::plan::due::guard_expired;
use crate::plan::identity::{Identity, KeyHash};
use crate::plan::resource_type::ResourceType;
use crate::plan::sweep::{SweepFacts, SweepVerdict, judge_sweep};
use crate::plan::unseen::{LiveRow, SortedRows, Unseen, UnseenOf};
use crate::plan::{PersonId, Timestamp, TypeFilter, parse_stamp, stamp};
use crate::warehouse::changes::{Changes, History};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::SweepRequest;
use crate::warehouse::pull::PullHead;

pub(super) enum Swept {
    Marked { deleted: u64 },
    WalkAgain,
    Guarded { unseen: u64 },
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
            let Unseen { tables, tables_with_twins, .. } = judged.unseen;
            settle(connection, head, request, &tables, &tables_with_twins, now, changes)
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
    unseen: &[UnseenOf<i64>],
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
    /// By their `rowid`.
    unseen: Unseen<i64>,
    guarded_since: Option<Timestamp>,
}

/// Only reads: a dry run asks too.
pub(super) fn judge(
    connection: &Connection,
    head: &PullHead,
    request: &SweepRequest,
    now: Timestamp,
) -> Result<Judged, StoreFailed> {
    let unseen = find_unseen(connection, &head.person, &head.types, &request.seen)?;
    let guarded_since: Option<String> = connection
        .query_row(
            "SELECT sweep_guarded_at FROM checkpoint WHERE person_id = ?1",
            [head.person.as_str()],
            |row| row.get(0),
        )
        .optional()?
        .flatten();
    let guarded_since = guarded_since.as_deref().and_then(parse_stamp);
    let facts = unseen.facts(request.walk, guarded_since.is_some_and(|since| guard_expired(since, now)));
    Ok(Judged { verdict: judge_sweep(facts), facts, unseen, guarded_since })
}

fn find_unseen(
    connection: &Connection,
    person: &PersonId,
    types: &TypeFilter,
    seen: &[HashSet<KeyHash>],
) -> Result<Unseen<i64>, StoreFailed> {
    let mut found = Unseen::default();
    let all = tables::resource_tables(connection)?;
    let (asked, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|known| types.asks_for(known.name));
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
    let quarantined = quarantined_keys(connection, person)?;
    for known in asked {
        let twins = twins(connection, &known.table, person)?;
        let mut sorted = SortedRows::new(&known.table, seen, twins, &quarantined);
        each_live_row(connection, &known.table, person, |row| sorted.add(row))?;
        found.add(sorted);
    }
    Ok(found)
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

fn each_live_row(
    connection: &Connection,
    table: &str,
    person: &PersonId,
    mut each: impl FnMut(LiveRow<i64>),
) -> Result<(), StoreFailed> {
    let statement = format!(
        "SELECT rowid, key, id, superseded_at IS NOT NULL FROM \"{table}\"
          WHERE person_id = ?1 AND deleted_at IS NULL"
    );
    let mut statement = connection.prepare_cached(&statement)?;
    let mut rows = statement.query([person.as_str()])?;
    while let Some(row) = rows.next()? {
        let (key, id) = (row.get(1)?, row.get(2)?);
        each(LiveRow { row: row.get(0)?, key, id, is_superseded: row.get(3)? });
    }
    Ok(())
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
        |table: &str| ResourceType::by_table(table).is_some_and(|known| head.types.asks_for(known.name));
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
    unseen: &[UnseenOf<i64>],
    now: Timestamp,
    changes: &mut Changes<'_>,
) -> Result<Swept, StoreFailed> {
    let mut deleted = 0;
    for UnseenOf { table, renamed, vanished } in unseen {
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
    let mut contents = history::contents(history, connection, table, person.as_str())?;
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
                history::keep(history, connection, table, person.as_str(), &row.key, &stamp(now))?;
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
