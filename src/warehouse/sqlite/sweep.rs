//! Marks what a complete full pull no longer held, in the transaction that ends it.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::analyst_tables::Changes;
use super::tables;
use crate::plan::due::guard_expired;
use crate::plan::resource_type::ResourceType;
use crate::plan::row::{KeyHash, key_hash};
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
    /// Live on, content and all, under a key that this pull brought.
    renamed: Vec<i64>,
    vanished: Vec<i64>,
}

pub(super) fn run(
    connection: &Connection,
    head: &PullHead,
    request: &SweepRequest,
    now: Timestamp,
    changes: &mut Changes<'_>,
) -> Result<Swept, StoreFailed> {
    let judged = judge(connection, head, request, now)?;
    let set_guard = |since: Option<Timestamp>| -> Result<(), StoreFailed> {
        let since = since.map(stamp);
        connection.execute(
            "UPDATE checkpoint SET sweep_guarded_at = ?2 WHERE person_id = ?1",
            params![head.person.as_str(), since],
        )?;
        Ok(())
    };
    match judged.verdict {
        SweepVerdict::WalkAgain => Ok(Swept::WalkAgain),
        SweepVerdict::Guard => {
            set_guard(Some(judged.guarded_since.unwrap_or(now)))?;
            Ok(Swept::Guarded { unseen: judged.facts.unseen })
        }
        SweepVerdict::Mark => {
            if judged.guarded_since.is_some() {
                set_guard(None)?;
            }
            forget_quarantined(connection, head, &request.seen)?;
            mark(connection, &judged.unseen, now, changes)
        }
    }
}

/// What a sweep would do, and on which rows.
pub(super) struct Judged {
    pub(super) verdict: SweepVerdict,
    pub(super) facts: SweepFacts,
    unseen: Vec<Unseen>,
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
    let facts = SweepFacts {
        unseen: found.unseen.iter().map(|table| table.vanished.len() as u64).sum(),
        live: found.live,
        pages: request.pages,
        walk: request.walk,
        guard_expired: guarded_since.is_some_and(|since| guard_expired(since, now)),
    };
    Ok(Judged { verdict: judge_sweep(facts), facts, unseen: found.unseen, guarded_since })
}

struct Found {
    unseen: Vec<Unseen>,
    /// Live rows of the patient in all tables, renamed ones left out.
    live: u64,
}

fn find_unseen(
    connection: &Connection,
    person: &PersonId,
    types: &TypeFilter,
    seen: &[HashSet<KeyHash>],
) -> Result<Found, StoreFailed> {
    let mut found = Found { unseen: Vec::new(), live: 0 };
    if !any_unseen(connection, person, types, seen)? {
        return Ok(found);
    }
    for known in tables::resource_tables(connection)? {
        if !is_asked(types, known) {
            found.live += tables::live_rows_of(connection, &known.table, person.as_str())?;
            continue;
        }
        let unseen = unseen_in(connection, &known.table, person, seen, &mut found.live)?;
        if !(unseen.renamed.is_empty() && unseen.vanished.is_empty()) {
            found.unseen.push(unseen);
        }
    }
    Ok(found)
}

fn is_asked(types: &TypeFilter, known: &ResourceType) -> bool {
    types.is_everything() || types.types().iter().any(|name| name == known.name)
}

/// Is there any key that no walk saw, be its row live or not? Mostly there is none, and the
/// index alone can tell.
fn any_unseen(
    connection: &Connection,
    person: &PersonId,
    types: &TypeFilter,
    seen: &[HashSet<KeyHash>],
) -> Result<bool, StoreFailed> {
    for known in tables::resource_tables(connection)?.into_iter().filter(|known| is_asked(types, known)) {
        let statement = format!("SELECT key FROM \"{}\" WHERE person_id = ?1", known.table);
        let mut statement = connection.prepare_cached(&statement)?;
        let mut rows = statement.query([person.as_str()])?;
        while let Some(row) = rows.next()? {
            let key = key_hash(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?);
            if !seen.iter().any(|walk| walk.contains(&key)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// `id` and `content_hash`: what stays when an entry is renamed.
type Content = (Option<String>, Vec<u8>);

fn unseen_in(
    connection: &Connection,
    table: &'static str,
    person: &PersonId,
    seen: &[HashSet<KeyHash>],
    live: &mut u64,
) -> Result<Unseen, StoreFailed> {
    let statement = format!(
        "SELECT rowid, key, id, content_hash FROM \"{table}\" WHERE person_id = ?1 AND deleted_at IS NULL"
    );
    let mut statement = connection.prepare_cached(&statement)?;
    let mut rows = statement.query([person.as_str()])?;
    let mut unseen: Vec<(i64, Content)> = Vec::new();
    let mut brought: HashSet<Content> = HashSet::new();
    while let Some(row) = rows.next()? {
        *live += 1;
        let key = key_hash(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?);
        let content: Content = (row.get(2)?, row.get(3)?);
        if seen.iter().any(|walk| walk.contains(&key)) {
            brought.insert(content);
        } else {
            unseen.push((row.get(0)?, content));
        }
    }
    let mut result = Unseen { table, renamed: Vec::new(), vanished: Vec::new() };
    for (rowid, content) in unseen {
        if content.0.is_some() && brought.contains(&content) {
            result.renamed.push(rowid);
            *live -= 1;
        } else {
            result.vanished.push(rowid);
        }
    }
    Ok(result)
}

fn mark(
    connection: &Connection,
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
        let mut removing =
            connection.prepare_cached(&format!("DELETE FROM \"{table}\" WHERE rowid = ?1 RETURNING key"))?;
        for rowid in renamed {
            changes.gone(table, removing.query_row([rowid], |row| row.get(0))?);
        }
    }
    Ok(Swept::Marked { deleted })
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
    let mut statement = connection.prepare_cached("SELECT key FROM quarantine WHERE person_id = ?1")?;
    let keys =
        statement.query_map([person], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    for key in keys {
        let hash = key_hash(&key);
        if !seen.iter().any(|walk| walk.contains(&hash)) {
            connection
                .prepare_cached("DELETE FROM quarantine WHERE person_id = ?1 AND key = ?2")?
                .execute([person, &key])?;
        }
    }
    Ok(())
}
