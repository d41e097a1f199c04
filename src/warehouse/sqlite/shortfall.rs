//! What is noted of pulls that bring less than the server counts, or more than was asked for.

use rusqlite::{Connection, OptionalExtension, params};

use crate::plan::since::{SinceFacts, pulls_ignored};
use crate::plan::{PullMode, parse_stamp, stamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::{Brought, ShortNote, ShortfallChange};
use crate::warehouse::pull::PullHead;

/// Notes how much a pull has brought, before its end changes what is known of the ones before.
/// Returns how many pulls in a row have brought everything, whatever was asked for.
pub(super) fn note_brought(
    connection: &Connection,
    head: &PullHead,
    brought: Option<Brought>,
    has_news: bool,
) -> Result<u64, StoreFailed> {
    let Some(brought) = brought else { return Ok(0) };
    let person = head.person.as_str();
    let Some(since) = head.since else {
        let statement = "UPDATE checkpoint SET full_entries = ?2 WHERE person_id = ?1";
        connection.prepare_cached(statement)?.execute(params![person, brought.entries])?;
        return Ok(0);
    };
    let statement = "SELECT full_entries, last_full_at, since_ignored FROM checkpoint WHERE person_id = ?1";
    let known = connection.prepare_cached(statement)?.query_row([person], |row| {
        Ok((row.get::<_, Option<u64>>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, u64>(2)?))
    });
    let Some((full_entries, last_full_at, before)) = known.optional()? else { return Ok(0) };
    let (Some(full_entries), Some(last_full_at)) =
        (full_entries, last_full_at.as_deref().and_then(parse_stamp))
    else {
        return Ok(0);
    };
    let facts = SinceFacts {
        since,
        entries: brought.entries,
        full_entries,
        brought_news: has_news,
        newest: brought.newest,
        last_full_at,
    };
    let pulls = pulls_ignored(before, facts);
    if pulls != before {
        let statement = "UPDATE checkpoint SET since_ignored = ?2 WHERE person_id = ?1";
        connection.prepare_cached(statement)?.execute(params![person, pulls])?;
    }
    Ok(pulls)
}

/// Notes by how much, and since when, a patient's pulls fall short of what the server counts.
pub(super) fn note(
    connection: &Connection,
    head: &PullHead,
    shortfall: ShortfallChange,
) -> Result<(), StoreFailed> {
    let (person, is_full) = (head.person.as_str(), head.mode == PullMode::Full);
    match shortfall {
        ShortfallChange::Keep => {}
        ShortfallChange::Clear => {
            let statement = "UPDATE checkpoint
                    SET short_since = NULL, short_fingerprint = NULL, short_by = NULL, short_in_full = NULL
                  WHERE person_id = ?1 AND short_by IS NOT NULL AND (?2 OR NOT short_in_full)";
            connection.prepare_cached(statement)?.execute(params![person, is_full])?;
        }
        ShortfallChange::Note(ShortNote { by, since }) => {
            let statement = "UPDATE checkpoint
                    SET short_since = ?2, short_fingerprint = ?3, short_by = ?4, short_in_full = ?5
                  WHERE person_id = ?1 AND (?5 OR ?2 IS NOT NULL OR NOT coalesce(short_in_full, 0))";
            let fingerprint = since.map(|since| since.fingerprint.cast_signed());
            let since = since.map(|since| stamp(since.since));
            let values = params![person, since, fingerprint, by, is_full];
            connection.prepare_cached(statement)?.execute(values)?;
        }
    }
    Ok(())
}
