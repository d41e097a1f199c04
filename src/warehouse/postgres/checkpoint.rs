//! Where each patient stands, and how far a pull under way has come.
//!
//! A move of a pull that hits no row means that another pull has taken over: then nothing
//! of the move is kept.

use std::collections::HashSet;

use tokio_postgres::Row;

use super::failure::Undone;
use super::session::Session;
use super::shortfall;
use super::shortfall::BroughtBefore;
use super::values::{Columns, Param, count, counted};
use crate::plan::checkpoint::{Checkpoint, PastPurge, UnfinishedPull};
use crate::plan::completeness::{ShortSince, Walk, WalkCounts};
use crate::plan::consent::{HOLD_WINDOW, Withdrawals};
use crate::plan::leaver::{Missing, READINGS_MIN};
use crate::plan::row::KeyHash;
use crate::plan::state::{Event, HeldWhy, NEW_WHEN_PULLED, PatientState, PurgeReason, next_state};
use crate::plan::{PersonId, PullMode, Timestamp, TypeFilter};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::{Finished, ShortfallChange, WalkMark};
use crate::warehouse::patient::PATIENTS_AT_ONCE;
use crate::warehouse::pull::{Lease, PullHead, Setback};

/// The table's columns, and whether the server has counted the walk under way: what [`read`] reads.
pub(super) const COLUMNS: &str = "c.*, CASE WHEN c.pull_mode IS NOT NULL THEN
            (SELECT w.total IS NOT NULL FROM walk AS w WHERE w.person_id = c.person_id AND w.walk = c.pull_walk)
        END AS pull_has_total";

fn select() -> String {
    format!("SELECT {COLUMNS} FROM checkpoint AS c")
}

pub(super) async fn all(session: &Session) -> Result<Vec<Checkpoint>, Undone> {
    // By the bytes of the ids, as everything else here orders them.
    let rows = session.rows(&format!("{} ORDER BY c.person_id COLLATE \"C\"", select()), &[]).await?;
    rows.iter().map(read).collect()
}

/// Returns so many patients that follow one, in an order that is the server's.
pub(super) async fn after(
    session: &Session,
    last: Option<&PersonId>,
    most: usize,
) -> Result<Vec<Checkpoint>, Undone> {
    let statement = format!("{} WHERE c.person_id > $1 ORDER BY c.person_id LIMIT $2", select());
    let last = last.map_or("", PersonId::as_str);
    session.rows(&statement, &[&last, &count(most as u64)]).await?.iter().map(read).collect()
}

pub(super) async fn held(session: &Session) -> Result<Vec<Checkpoint>, Undone> {
    let statement = format!("{} WHERE c.state = 'held' ORDER BY c.person_id COLLATE \"C\"", select());
    session.rows(&statement, &[]).await?.iter().map(read).collect()
}

pub(super) async fn one(session: &Session, person: &PersonId) -> Result<Option<Checkpoint>, Undone> {
    let found =
        session.row_or_none(&format!("{} WHERE c.person_id = $1", select()), &[&person.as_str()]).await?;
    found.as_ref().map(read).transpose()
}

/// Begins to read everybody but those that a worker is dealing with, those first who have waited longest, as
/// [`next_free`] returns them piece by piece.
pub(super) async fn begin_reading_free(session: &Session) -> Result<(), Undone> {
    let declare = include_str!("../../../schema/postgres/free_patients.sql").replace("{columns}", COLUMNS);
    session.batch(&declare).await
}

/// Returns the next of them, with the fences that turns would be planned on; none once all are read.
pub(super) async fn next_free(session: &Session) -> Result<Vec<Lease>, Undone> {
    let rows = session.fetch(&format!("FETCH FORWARD {PATIENTS_AT_ONCE} FROM free_patients")).await?;
    rows.iter().map(|row| Ok(Lease { checkpoint: read(row)?, fence: Columns(row).get("fence")? })).collect()
}

/// Reads [`COLUMNS`].
pub(super) fn read(row: &Row) -> Result<Checkpoint, Undone> {
    let damaged = |what: &str| StoreFailed::Damaged(format!("checkpoint.{what} cannot be read"));
    let column = Columns(row);
    let (id, state): (String, String) = (column.get("person_id")?, column.get("state")?);
    let mode: Option<String> = column.get("pull_mode")?;
    let pull_started_at: Option<Timestamp> = column.get("pull_started_at")?;
    let unfinished = match (mode.as_deref().and_then(PullMode::parse), pull_started_at) {
        (Some(mode), Some(started_at)) => Some(UnfinishedPull {
            mode,
            types: TypeFilter::parse(&column.get::<Option<String>>("pull_types")?.unwrap_or_default()),
            started_at,
            since: column.get("pull_since")?,
            next_url: column.get("pull_next_url")?,
            pages: counted(column.get::<Option<i64>>("pull_pages")?.unwrap_or_default()),
            walk: small(column.get::<Option<i64>>("pull_walk")?.unwrap_or(1)),
            has_total: column.get::<Option<bool>>("pull_has_total")?.unwrap_or_default(),
            renamed: column.get::<Option<bool>>("pull_renamed")?.unwrap_or_default(),
            link_failures: small(column.get::<Option<i64>>("pull_link_failures")?.unwrap_or_default()),
        }),
        _ => None,
    };
    let missing_since: Option<Timestamp> = column.get("missing_since")?;
    let readings = small(column.get("missing_readings")?);
    let purge_reason: Option<String> = column.get("purge_reason")?;
    let purged = column
        .get::<Option<Timestamp>>("purged_at")?
        .zip(purge_reason.as_deref().and_then(PurgeReason::parse));
    let short_since: Option<Timestamp> = column.get("short_since")?;
    let fingerprint: Option<i64> = column.get("short_fingerprint")?;
    Ok(Checkpoint {
        person: PersonId::parse(&id).map_err(|_| damaged("person_id"))?,
        label: column.get("label")?,
        listed: column.get("listed")?,
        missing: missing_since.map(|since| Missing { since, readings }),
        state: PatientState::parse(&state).ok_or_else(|| damaged("state"))?,
        watermark: column.get("watermark")?,
        types: TypeFilter::parse(&column.get::<String>("types")?),
        last_full_at: column.get("last_full_at")?,
        last_success_at: column.get("last_success_at")?,
        last_asked_at: column.get("last_asked_at")?,
        failures: small(column.get("failures")?),
        next_attempt_at: column.get("next_attempt_at")?,
        sweep_guarded_at: column.get("sweep_guarded_at")?,
        renamed_full_at: column.get("renamed_full_at")?,
        holds_rows: column.get("holds_rows")?,
        since_ignored: counted(column.get("since_ignored")?),
        refused_at: column.get("refused_at")?,
        held_why: column.get::<Option<String>>("held_why")?.as_deref().and_then(HeldWhy::parse),
        consent_ended_at: column.get("consent_ended_at")?,
        purged: purged.map(|(at, reason)| PastPurge { at, reason }),
        short_since: short_since
            .zip(fingerprint)
            .map(|(since, fingerprint)| ShortSince { since, fingerprint: fingerprint.cast_unsigned() }),
        unfinished,
    })
}

/// Returns a count that is never large.
pub(super) fn small(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Returns what the hold rule counts of withdrawn consents, but for the purges that are to be made.
pub(super) async fn withdrawals(session: &Session, now: Timestamp) -> Result<Withdrawals, Undone> {
    let statement =
        "SELECT count(DISTINCT person_id) FROM purge_log WHERE reason = 'consent_revoked' AND purged_at > $1";
    let lately = session.row(statement, &[&(now - HOLD_WINDOW)]).await?;
    let purged_lately = counted(lately.try_get(0)?);
    Ok(Withdrawals { confirmed: 0, purged_lately, holders: holders(session).await? })
}

/// Returns what the hold rule counts of those whom the roster lacks, but for the purges that are to be made.
pub(super) async fn departures(
    session: &Session,
    missing_since: Timestamp,
    now: Timestamp,
) -> Result<Withdrawals, Undone> {
    let statement = include_str!("../../../schema/postgres/departed.sql");
    let lately = session.row(statement, &[&(now - HOLD_WINDOW), &missing_since]).await?;
    let purged_lately = counted(lately.try_get(0)?);
    Ok(Withdrawals { confirmed: 0, purged_lately, holders: holders(session).await? })
}

async fn holders(session: &Session) -> Result<u64, Undone> {
    let row = session.row("SELECT count(*) FROM checkpoint WHERE holds_rows", &[]).await?;
    Ok(counted(row.try_get(0)?))
}

pub(super) async fn count_refused(session: &Session) -> Result<u64, Undone> {
    let row = session.row("SELECT count(*) FROM checkpoint WHERE state = 'refused'", &[]).await?;
    Ok(counted(row.try_get(0)?))
}

/// Returns the patients that were pulled last and are not refused, the latest first.
pub(super) async fn latest_pulled(session: &Session, most: usize) -> Result<Vec<PersonId>, Undone> {
    let statement = "SELECT person_id FROM checkpoint
          WHERE last_success_at IS NOT NULL AND state NOT IN ('refused', 'held', 'revoked')
          ORDER BY last_success_at DESC LIMIT $1";
    persons(&session.rows(statement, &[&count(most as u64)]).await?)
}

pub(super) async fn labelled(session: &Session, label: &str) -> Result<Vec<PersonId>, Undone> {
    persons(&session.rows("SELECT person_id FROM checkpoint WHERE label = $1", &[&label]).await?)
}

fn persons(rows: &[Row]) -> Result<Vec<PersonId>, Undone> {
    let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    Ok(ids.iter().filter_map(|id| PersonId::parse(id).ok()).collect())
}

/// The walks of an interrupted pull, the one under way last.
pub(super) async fn walks(session: &Session, person: &PersonId) -> Result<Vec<Walk>, Undone> {
    let person = person.as_str();
    let marks = session.rows("SELECT * FROM walk WHERE person_id = $1 ORDER BY walk", &[&person]).await?;
    let mut walks = Vec::new();
    for mark in &marks {
        let number: i64 = mark.try_get("walk")?;
        let statement = "SELECT key_hashes FROM seen WHERE person_id = $1 AND walk = $2";
        let mut seen = HashSet::new();
        for page in session.rows(statement, &[&person, &number]).await? {
            let (hashes, _) = page.try_get::<_, &[u8]>(0)?.as_chunks();
            seen.extend(hashes.iter().map(|hash| KeyHash::from_be_bytes(*hash)));
        }
        walks.push(Walk { seen, counts: counts_of(mark)? });
    }
    Ok(walks)
}

fn counts_of(mark: &Row) -> Result<WalkCounts, Undone> {
    let number = |name: &str| Ok::<u64, Undone>(counted(mark.try_get(name)?));
    Ok(WalkCounts {
        pages: number("pages")?,
        includes: number("includes")?,
        received: number("received")?,
        total: mark.try_get::<_, Option<i64>>("total")?.map(counted),
        total_changed: mark.try_get("total_changed")?,
        last_page: number("last_page")?,
        page_before: number("page_before")?,
        told_incomplete: mark.try_get("told_incomplete")?,
        stray_outcomes: number("stray_outcomes")?,
        hides_any: mark.try_get("hides_any")?,
    })
}

/// Refuses a move of a pull that another one has taken over.
pub(super) async fn expect_under_way(session: &Session, head: &PullHead) -> Result<(), Undone> {
    let statement = "SELECT 1 FROM checkpoint WHERE person_id = $1 AND pull_started_at = $2";
    let found = session.row_or_none(statement, &[&head.person.as_str(), &head.started_at]).await?;
    expect_one(u64::from(found.is_some()))
}

/// What the row of a patient says that a page is stored for, and what lies beside it.
pub(super) struct Standing {
    /// Whether a thing of this patient may be stored with its id behind its name.
    pub(super) shares_names: bool,
    pub(super) has_quarantined: bool,
    pub(super) brought: BroughtBefore,
    /// By how much the pulls fall short of what the server counts.
    short_by: Option<i64>,
    has_walks: bool,
}

/// Keeps everyone else from the patient until the transaction ends. Of one that is not known nothing is stored.
pub(super) async fn lock(session: &Session, person: &str) -> Result<Standing, Undone> {
    let statement = include_str!("../../../schema/postgres/lock_patient.sql");
    let Some(row) = session.row_or_none(statement, &[&person]).await? else { return Err(Undone::Superseded) };
    let column = Columns(&row);
    Ok(Standing {
        shares_names: column.get("shares_names")?,
        has_quarantined: column.get("has_quarantined")?,
        brought: BroughtBefore::of(&column)?,
        short_by: column.get("short_by")?,
        has_walks: column.get("has_walks")?,
    })
}

/// Remembers that this pull has begun, in place of any earlier one.
pub(super) async fn begin_pull(session: &Session, head: &PullHead) -> Result<(), Undone> {
    forget_walks(session, &head.person).await?;
    let statement = "UPDATE checkpoint
            SET pull_mode = $2, pull_types = $3, pull_started_at = $4, pull_since = $5, pull_next_url = NULL,
                pull_pages = 0, pull_walk = 1, pull_renamed = false, pull_link_failures = 0,
                holds_rows = true, purged_at = NULL, purge_reason = NULL,
                state = CASE WHEN state = ANY($6) THEN $7 ELSE state END
          WHERE person_id = $1";
    let (mode, types) = (head.mode.as_str(), head.types.to_string());
    let (before, after) = (NEW_WHEN_PULLED.map(PatientState::as_str).to_vec(), PatientState::New.as_str());
    let person = head.person.as_str();
    let changed = session
        .execute(statement, &[&person, &mode, &types, &head.started_at, &head.since, &before, &after])
        .await?;
    expect_one(changed)
}

/// A page is whole: its link is next, or (`None`) the walk begins again.
pub(super) async fn advance(
    session: &Session,
    head: &PullHead,
    next_url: Option<&str>,
    walk: WalkMark,
) -> Result<(), Undone> {
    let (person, number, counts) = (head.person.as_str(), i64::from(walk.number), walk.counts);
    session
        .execute(
            include_str!("../../../schema/postgres/note_walk.sql"),
            &[
                &person,
                &number,
                &count(counts.pages),
                &count(counts.includes),
                &count(counts.received),
                &counts.total.map(count),
                &counts.total_changed,
                &count(counts.last_page),
                &count(counts.page_before),
                &counts.told_incomplete,
                &count(counts.stray_outcomes),
                &counts.hides_any,
            ],
        )
        .await?;
    let statement =
        "UPDATE checkpoint SET pull_next_url = $3, pull_pages = $4, pull_walk = $5, pull_link_failures = 0
          WHERE person_id = $1 AND pull_started_at = $2";
    let changed = session
        .execute(statement, &[&person, &head.started_at, &next_url, &count(counts.pages), &number])
        .await?;
    expect_one(changed)
}

/// Adds a page's keys to what the walk has seen. `walk.counts.pages` is the page's number.
pub(super) async fn keep_seen(
    session: &Session,
    person: &PersonId,
    walk: WalkMark,
    keys: &[KeyHash],
) -> Result<(), Undone> {
    let hashes: Vec<u8> = keys.iter().flat_map(|key| key.to_be_bytes()).collect();
    let statement = "INSERT INTO seen (person_id, walk, page, key_hashes) VALUES ($1, $2, $3, $4)
         ON CONFLICT (person_id, walk, page) DO UPDATE SET key_hashes = excluded.key_hashes";
    let page = count(walk.counts.pages);
    session.execute(statement, &[&person.as_str(), &i64::from(walk.number), &page, &hashes]).await?;
    Ok(())
}

pub(super) async fn note_renamed(session: &Session, person: &PersonId) -> Result<(), Undone> {
    // The page that ends a pull has cleared the columns already; its pull is told in the reply.
    let statement =
        "UPDATE checkpoint SET pull_renamed = true WHERE person_id = $1 AND pull_mode IS NOT NULL";
    session.execute(statement, &[&person.as_str()]).await?;
    Ok(())
}

/// Notes when renamed entries last asked for a full pull.
pub(super) async fn note_renamed_full(
    session: &Session,
    person: &PersonId,
    now: Timestamp,
) -> Result<(), Undone> {
    let statement = "UPDATE checkpoint SET renamed_full_at = $2 WHERE person_id = $1";
    session.execute(statement, &[&person.as_str(), &now]).await?;
    Ok(())
}

/// Takes a patient again whose turn was over, as for a full pull that follows. Returns the new fence.
pub(super) async fn take_again(
    session: &Session,
    person: &PersonId,
    owner: &str,
    former: i64,
) -> Result<i64, Undone> {
    let statement = "UPDATE checkpoint SET owner = $2, fence = fence + 1
          WHERE person_id = $1 AND fence = $3 AND owner IS NULL RETURNING fence";
    let taken = session.row_or_none(statement, &[&person.as_str(), &owner, &former]).await?;
    Ok(taken.ok_or(Undone::Superseded)?.try_get(0)?)
}

const NO_PULL: &str = include_str!("../../../schema/no_pull.sql");

/// Forgets the pull under way, so that the next one begins at its beginning.
pub(super) async fn drop_pull(session: &Session, person: &PersonId) -> Result<(), Undone> {
    let statement = format!("UPDATE checkpoint SET {NO_PULL} WHERE person_id = $1");
    session.execute(&statement, &[&person.as_str()]).await?;
    forget_walks(session, person).await
}

async fn forget_walks(session: &Session, person: &PersonId) -> Result<(), Undone> {
    let walks = session.execute("DELETE FROM walk WHERE person_id = $1", &[&person.as_str()]).await?;
    // Nothing is noted as seen without its walk.
    if walks > 0 {
        session.execute("DELETE FROM seen WHERE person_id = $1", &[&person.as_str()]).await?;
    }
    Ok(())
}

/// Moves the watermark, in the transaction of the pull's last rows. `before` is how the patient stood at its
/// beginning.
pub(super) async fn finish_pull(
    session: &Session,
    head: &PullHead,
    before: &Standing,
    finished: &Finished,
) -> Result<(), Undone> {
    let Finished { is_marked, watermark, stored_rows, swept, shortfall, now } = *finished;
    let full_at = (head.mode == PullMode::Full).then_some(now);
    // Whatever the state was: it is not read for this.
    let state = next_state(PatientState::Active, Event::PullFinished);
    let statement = include_str!("../../../schema/postgres/finish_pull.sql").replace("{no_pull}", NO_PULL);
    let (person, full) = (head.person.as_str(), swept.then_some(now));
    let (pull, state, types) = (is_marked.then_some(head.started_at), state.as_str(), head.types.to_string());
    let moved: [&dyn Param; 9] =
        [&person, &pull, &state, &watermark, &types, &now, &full_at, &stored_rows, &full];
    // Sent together.
    let (moved, noted, forgotten) = tokio::join!(
        biased;
        session.execute(&statement, &moved),
        async {
            match shortfall {
                ShortfallChange::Clear if before.short_by.is_none() => Ok(()),
                change => shortfall::note(session, head, change).await,
            }
        },
        async {
            if before.has_walks { forget_walks(session, &head.person).await } else { Ok(()) }
        }
    );
    expect_one(moved?)?;
    noted.and(forgotten)
}

/// Applies what a pull that did not finish means for its patient.
pub(super) async fn set_back(
    session: &Session,
    head: &PullHead,
    setback: &Setback,
    now: Timestamp,
) -> Result<(), Undone> {
    let person = &head.person;
    if let Some(note) = setback.short {
        shortfall::note(session, head, ShortfallChange::Note(note)).await?;
    }
    if setback.forgets_pull {
        drop_pull(session, person).await?;
    }
    count_link_failure(session, person).await?;
    apply(session, person, setback, now).await
}

/// Moves the patient's state by an event that is neither a finished pull nor a purge.
pub(super) async fn apply(
    session: &Session,
    person: &PersonId,
    setback: &Setback,
    now: Timestamp,
) -> Result<(), Undone> {
    let statement = "SELECT state FROM checkpoint WHERE person_id = $1 FOR UPDATE";
    let before = session.row_or_none(statement, &[&person.as_str()]).await?;
    let before: Option<String> = before.map(|row| row.try_get(0)).transpose()?;
    let before = before.as_deref().and_then(PatientState::parse).unwrap_or(PatientState::New);
    let changed = session
        .execute(
            include_str!("../../../schema/postgres/set_back.sql"),
            &[
                &person.as_str(),
                &next_state(before, setback.event).as_str(),
                &setback.error,
                &setback.next_attempt_at,
                &setback.has_failed(),
                &setback.was_answered,
                &now,
                &setback.is_refusal(),
                &setback.is_permission(),
                &setback.breaks_row,
                &setback.held_why(),
            ],
        )
        .await?;
    expect_one(changed)
}

/// Counts that the link a pull under way would go on at has failed once more.
async fn count_link_failure(session: &Session, person: &PersonId) -> Result<(), Undone> {
    let statement = "UPDATE checkpoint SET pull_link_failures = coalesce(pull_link_failures, 0) + 1
          WHERE person_id = $1 AND pull_next_url IS NOT NULL";
    session.execute(statement, &[&person.as_str()]).await?;
    Ok(())
}

/// Takes note of a patient whom an operator has purged and this warehouse does not know, so that a roster
/// which lists it does not undo that.
pub(super) async fn remember(session: &Session, person: &PersonId, now: Timestamp) -> Result<(), Undone> {
    let statement = "INSERT INTO checkpoint (person_id, listed, missing_since) VALUES ($1, false, $2) ON CONFLICT DO NOTHING";
    session.execute(statement, &[&person.as_str(), &now]).await?;
    Ok(())
}

/// Removes the last that is known of purged patients which no roster lists any more. Readings that
/// lack a paused one for a while do not undo its purge: it is forgotten if it was in a file and they have
/// lacked it since `paused_lacked_since`. Records that lack somebody are no word of an operator's.
pub(super) async fn drop_unlisted(
    session: &Session,
    paused_lacked_since: Option<Timestamp>,
) -> Result<(), Undone> {
    const UNLISTED: &str = "NOT listed AND purged_at IS NOT NULL
        AND (state <> 'paused' OR listed_by = 'file' AND $1 <= missing_readings AND missing_since <= $2)";
    let (readings, since) = (i64::from(READINGS_MIN), paused_lacked_since);
    let pulls =
        format!("DELETE FROM pull WHERE person_id IN (SELECT person_id FROM checkpoint WHERE {UNLISTED})");
    session.execute(&pulls, &[&readings, &since]).await?;
    session.execute(&format!("DELETE FROM checkpoint WHERE {UNLISTED}"), &[&readings, &since]).await?;
    Ok(())
}

/// A move that hits no row was made by a pull that another one has taken over.
pub(super) fn expect_one(changed: u64) -> Result<(), Undone> {
    if changed == 1 { Ok(()) } else { Err(Undone::Superseded) }
}
