//! A cycle that several workers share, as rows: who has begun it, its turns, and who takes which.
//!
//! Promise: a turn is taken once, and once more by another where its worker has gone; one is void that was planned on
//! what is not so any more. Absent on purpose: what a turn is for, which is `plan`'s.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Row;

use super::checkpoint;
use super::failure::Undone;
use super::open_warehouse::Engine;
use super::schema::VERSION;
use super::session::Session;
use super::shared_cycle::{Close, close, open_cycle};
use super::values::{Columns, Param, count};
use super::workers::{Membership, NO_CYCLE, Ticket, expire_dead, join, note_left_out, release, renew};
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, PullMode, Timestamp, TypeFilter};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::pull::Lease;
use crate::warehouse::turn::{Announced, Claimed, CyclePart, SharedProgress, Turn, TurnsAsked};

/// What became of a cycle that is to begin.
enum Begun {
    New(i64),
    Open(i64),
    HasBeenRun,
}

async fn begin(
    session: &Session,
    owner: &str,
    tick: Option<Timestamp>,
    now: Timestamp,
) -> Result<Begun, Undone> {
    expire_dead(session).await?;
    if let Some(open) = open_cycle(session, owner).await? {
        if open.is_planned && open.others > 0 {
            return Ok(Begun::Open(open.id));
        }
        // Its lead has ended, and nobody is left in it: it is planned anew.
        close(session, Close::CutOff).await?;
    }
    session.execute(include_str!("../../../schema/postgres/release_silent.sql"), &[]).await?;
    let statement =
        "INSERT INTO shared_cycle (tick, started_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id";
    match session.row_or_none(statement, &[&tick, &now]).await? {
        Some(row) => Ok(Begun::New(row.try_get(0)?)),
        None => Ok(Begun::HasBeenRun),
    }
}

impl Engine {
    pub(in crate::warehouse) async fn announce_cycle(
        &self,
        tick: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Announced, StoreFailed> {
        let owner = self.owner();
        let begun = self.write(move |session| {
            let owner = owner.clone();
            Box::pin(async move { begin(session, &owner, tick, now).await })
        });
        let (announced, cycle) = match begun.await? {
            Begun::HasBeenRun => return Ok(Announced::HasBeenRun),
            Begun::New(cycle) => (Announced::Shared, cycle),
            Begun::Open(cycle) => (Announced::GoesOn, cycle),
        };
        self.join(cycle, now).await?;
        Ok(announced)
    }

    /// Takes part in the cycle under way; false where nobody is at one.
    pub(super) async fn join_open_cycle(&self, now: Timestamp) -> Result<bool, StoreFailed> {
        let owner = self.owner();
        let open = self.look(move |session| {
            let owner = owner.clone();
            Box::pin(async move { open_cycle(session, &owner).await })
        });
        match open.await? {
            Some(open) if open.others > 0 => self.join(open.id, now).await.map(|()| true),
            _ => Ok(false),
        }
    }

    async fn join(&self, cycle: i64, now: Timestamp) -> Result<(), StoreFailed> {
        self.become_worker(Some(cycle), now).await?;
        self.take_part(Membership::begin(self.pool(), &self.owner(), cycle)?);
        Ok(())
    }

    async fn become_worker(&self, cycle: Option<i64>, now: Timestamp) -> Result<(), StoreFailed> {
        let (owner, lease) = (self.owner(), self.pool().server().lease);
        self.write_freely(move |session| {
            let owner = owner.clone();
            Box::pin(async move { join(session, &owner, lease, cycle, now).await })
        })
        .await
    }

    /// Takes held patients beside whatever cycle is under way. Returns those that nobody else was dealing with.
    pub(in crate::warehouse) async fn take_held(
        &self,
        held: Vec<PersonId>,
        now: Timestamp,
    ) -> Result<HashSet<PersonId>, StoreFailed> {
        self.become_worker(None, now).await?;
        let membership = Membership::begin(self.pool(), &self.owner(), NO_CYCLE)?;
        let asked = Arc::new((self.owner(), held));
        let taken = self.write_freely(move |session| {
            let asked = asked.clone();
            Box::pin(async move {
                let (owner, held) = (&*asked.0, asked.1.iter().map(PersonId::as_str).collect::<Vec<_>>());
                expire_dead(session).await?;
                let take = include_str!("../../../schema/postgres/take_held.sql");
                fences(&session.rows(take, &[&owner, &held]).await?)
            })
        });
        let taken = taken.await?;
        for (person, fence) in &taken {
            membership.hold(person, *fence);
        }
        self.take_part(membership);
        Ok(taken.into_keys().collect())
    }

    pub(in crate::warehouse) async fn claim_turns(
        &self,
        asked: TurnsAsked,
        now: Timestamp,
    ) -> Result<Claimed, StoreFailed> {
        self.notice_failover_meanwhile(now).await?;
        let membership = self.membership()?;
        let (owner, lease) = (self.owner(), self.pool().server().lease);
        let (cycle, tickets) = (membership.cycle, membership.over_with(&asked.over));
        let part =
            serde_json::to_string(&asked.part).map_err(|error| StoreFailed::Engine(error.to_string()))?;
        let asked = Arc::new((asked, tickets, part));
        let work = self.write_freely(|session| {
            let (owner, asked) = (owner.clone(), asked.clone());
            Box::pin(async move {
                let (TurnsAsked { over, most, .. }, tickets, part) = &*asked;
                if !renew(session, &owner, lease).await? {
                    return Ok(None);
                }
                give_back(session, cycle, &owner, over, tickets).await?;
                Ok(Some(claim(session, cycle, &owner, part, *most).await?))
            })
        });
        let work = work.await?;
        // These turns may be of another server than was looked at above.
        self.notice_failover_meanwhile(now).await?;
        let Some(Taken { claimed, ticket, has_lead, is_planned }) = work else {
            membership.has_lost();
            return Err(StoreFailed::TakenOver);
        };
        membership.forget(&asked.0.over);
        if let Some(ticket) = &ticket {
            membership.take(ticket);
        }
        let waits = matches!(claimed, Claimed::OthersAtWork);
        if (waits || !has_lead) && !self.leads() && self.take_lead().await? {
            if !is_planned {
                return self.give_up_cycle().await.map(|()| Claimed::Closed);
            }
            tracing::info!("this worker leads the cycle from now on: the one that did has ended");
        }
        Ok(claimed)
    }

    /// Ends a cycle whose lead has ended before it had planned whose turn it is. The next one is planned anew.
    async fn give_up_cycle(&self) -> Result<(), StoreFailed> {
        tracing::warn!(
            "the one that led the cycle has ended before it was planned: the next cycle begins anew"
        );
        self.write(|session| Box::pin(close(session, Close::CutOff))).await?;
        self.leave_lead().await;
        Ok(())
    }

    /// Takes refused patients, to ask them again. Returns those that are as they were, with their new fences.
    pub(in crate::warehouse) async fn hold_refused(
        &self,
        refused: Vec<(PersonId, i64)>,
    ) -> Result<HashMap<PersonId, i64>, StoreFailed> {
        let membership = self.membership()?;
        let (owner, refused) = (self.owner(), Arc::new(refused));
        let held = self.write(move |session| {
            let (owner, refused) = (owner.clone(), refused.clone());
            Box::pin(async move {
                let persons: Vec<&str> = refused.iter().map(|(person, _)| person.as_str()).collect();
                let fences: Vec<i64> = refused.iter().map(|(_, fence)| *fence).collect();
                let hold = include_str!("../../../schema/postgres/hold_refused.sql");
                self::fences(&session.rows(hold, &[&&*owner, &persons, &fences]).await?)
            })
        });
        let held = held.await?;
        for (person, fence) in &held {
            membership.hold(person, *fence);
        }
        Ok(held)
    }

    /// Gives back patients whom nothing more is to be done about.
    pub(in crate::warehouse) async fn give_back(&self, over: Vec<PersonId>) -> Result<(), StoreFailed> {
        let membership = self.membership()?;
        let (cycle, owner, over) = (membership.cycle, self.owner(), Arc::new(over));
        let given = over.clone();
        self.write_freely(move |session| {
            let (owner, over) = (owner.clone(), given.clone());
            Box::pin(async move { give_back(session, cycle, &owner, &over, &[]).await })
        })
        .await?;
        membership.put_back(&over);
        Ok(())
    }

    /// Returns the patients of this cycle that are refused and whose turns are over.
    pub(in crate::warehouse) async fn refused_in_turns(&self) -> Result<Vec<Turn>, StoreFailed> {
        let cycle = self.membership()?.cycle;
        self.look(move |session| {
            Box::pin(async move {
                let refused = format!(
                    "{} WHERE t.cycle = $1 AND c.state = 'refused' AND c.owner IS NULL ORDER BY t.ordinal",
                    select_turns()
                );
                session.rows(&refused, &[&cycle]).await?.iter().map(turn_of).collect()
            })
        })
        .await
    }

    /// Returns what the others did in this cycle.
    pub(in crate::warehouse) async fn parts_of_others(&self) -> Result<Vec<CyclePart>, StoreFailed> {
        let (cycle, owner) = (self.membership()?.cycle, self.owner());
        self.look(move |session| {
            let owner = owner.clone();
            Box::pin(async move {
                let statement =
                    "SELECT counts::text FROM shared_cycle_part WHERE cycle = $1 AND worker <> $2";
                let parts = session.rows(statement, &[&cycle, &&*owner]).await?;
                let part = |row: &Row| Ok(serde_json::from_str(row.try_get(0)?).unwrap_or_default());
                parts.iter().map(part).collect()
            })
        })
        .await
    }

    /// Returns whom operators have purged since the cycle began, with the number of rows.
    pub(in crate::warehouse) async fn purged_meanwhile(&self) -> Result<Vec<(PersonId, u64)>, StoreFailed> {
        let cycle = self.membership()?.cycle;
        self.look(move |session| {
            Box::pin(async move {
                let statement = "SELECT person_id, rows_by_table FROM purge_log WHERE reason = $2
                       AND purged_at >= (SELECT started_at FROM shared_cycle WHERE id = $1) ORDER BY id";
                let mut purged = Vec::new();
                for row in session.rows(statement, &[&cycle, &PurgeReason::Operator.as_str()]).await? {
                    let erased: BTreeMap<String, u64> =
                        serde_json::from_str(row.try_get(1)?).unwrap_or_default();
                    if let Ok(person) = PersonId::parse(row.try_get(0)?) {
                        purged.push((person, erased.values().sum()));
                    }
                }
                Ok(purged)
            })
        })
        .await
    }

    /// Lets HealthEx alone for all workers.
    pub(in crate::warehouse) async fn let_alone(&self, wait: Duration) -> Result<(), StoreFailed> {
        let cycle = self.membership()?.cycle;
        self.write_freely(move |session| {
            Box::pin(async move {
                let statement = "UPDATE shared_cycle SET wait_until = clock_timestamp() + make_interval(secs => $2) WHERE id = $1";
                session.execute(statement, &[&cycle, &wait.as_secs_f64()]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Keeps what kept this process from asking, for whoever looks.
    pub(in crate::warehouse) async fn tell_problem(&self, problem: &str) -> Result<(), StoreFailed> {
        let told = Arc::new((self.owner(), problem.to_owned()));
        self.write_freely(move |session| {
            let told = told.clone();
            Box::pin(async move {
                let statement = "UPDATE worker SET problem = $2 WHERE id = $1";
                session.execute(statement, &[&&*told.0, &told.1]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Keeps why this process takes part in no cycle, for whoever looks.
    pub(super) async fn note_left_out(&self, problem: &str, now: Timestamp) -> Result<(), StoreFailed> {
        let told = Arc::new((self.owner(), problem.to_owned()));
        self.write_freely(move |session| {
            let told = told.clone();
            Box::pin(async move { note_left_out(session, &told.0, &told.1, now).await })
        })
        .await
    }

    /// Returns how far the cycle is, and how many others share it.
    pub(in crate::warehouse) async fn shared_progress(&self) -> Result<(SharedProgress, u64), StoreFailed> {
        let owner = self.owner();
        let open = self.look(move |session| {
            let owner = owner.clone();
            Box::pin(async move { open_cycle(session, &owner).await })
        });
        Ok(open.await?.map(|open| (open.progress, open.others)).unwrap_or_default())
    }
}

/// Reads patients with their fences.
fn fences(rows: &[Row]) -> Result<HashMap<PersonId, i64>, Undone> {
    let mut found = HashMap::new();
    for row in rows {
        if let Ok(person) = PersonId::parse(row.try_get(0)?) {
            found.insert(person, row.try_get(1)?);
        }
    }
    Ok(found)
}

async fn give_back(
    session: &Session,
    cycle: i64,
    owner: &str,
    over: &[PersonId],
    tickets: &[i64],
) -> Result<(), Undone> {
    release(session, owner, over).await?;
    if !tickets.is_empty() {
        let drop = "DELETE FROM ticket WHERE cycle = $1 AND worker = $2 AND first = ANY($3)";
        session.execute(drop, &[&cycle, &owner, &tickets.to_vec()]).await?;
    }
    Ok(())
}

async fn note_part(session: &Session, cycle: i64, owner: &str, part: &str) -> Result<(), Undone> {
    let statement = "INSERT INTO shared_cycle_part (cycle, worker, counts) VALUES ($1, $2, $3::text::json)
         ON CONFLICT (cycle, worker) DO UPDATE SET counts = excluded.counts";
    session.execute(statement, &[&cycle, &owner, &part]).await?;
    Ok(())
}

/// What came of asking for turns.
struct Taken {
    claimed: Claimed,
    ticket: Option<Ticket>,
    /// Whether somebody leads the cycle who lives.
    has_lead: bool,
    is_planned: bool,
}

/// Takes what a silent worker has left, else the next turns.
async fn claim(session: &Session, cycle: i64, owner: &str, part: &str, most: usize) -> Result<Taken, Undone> {
    let without = |claimed, has_lead| Ok(Taken { claimed, ticket: None, has_lead, is_planned: true });
    let lock = "SELECT 1 FROM shared_cycle WHERE id = $1 FOR UPDATE";
    let look = include_str!("../../../schema/postgres/look_at_cycle.sql");
    // Sent together, and carried out one after the other.
    let (it, ours): ([&dyn Param; 1], [&dyn Param; 2]) = ([&cycle], [&cycle, &owner]);
    let (locked, found) = tokio::join!(biased; session.rows(lock, &it), session.row_or_none(look, &ours));
    locked?;
    let Some(row) = found? else {
        return without(Claimed::Closed, true);
    };
    let column = Columns(&row);
    if column.get("is_over")? {
        return without(Claimed::Closed, true);
    }
    if column.get::<i64>("needs_worker")? > VERSION {
        return Err(Undone::Failed(StoreFailed::Refused(
            "the schema was migrated, and a newer healthex-sync is needed to work with it; what was stored is kept, and the other workers go on; install that one here too".to_owned(),
        )));
    }
    // Nobody can end the cycle meanwhile.
    note_part(session, cycle, owner, part).await?;
    let has_lead = column.get("has_lead")?;
    let wait: Option<f64> = column.get("waits")?;
    if let Some(wait) = wait.filter(|wait| *wait > 0.0) {
        return without(Claimed::ToldToWait(Duration::from_secs_f64(wait)), has_lead);
    }
    if !column.get::<bool>("is_planned")? {
        return Ok(Taken { claimed: Claimed::OthersAtWork, ticket: None, has_lead, is_planned: false });
    }
    if most == 0 {
        return without(Claimed::NothingLeft, has_lead);
    }
    let take_over = include_str!("../../../schema/postgres/take_over_ticket.sql");
    let (first, taken, was_anothers) =
        if let Some(row) = session.row_or_none(take_over, &[&cycle, &owner]).await? {
            let (first, last): (i64, i64) = (row.try_get("first")?, row.try_get("last")?);
            let former: String = row.try_get("former")?;
            let take = include_str!("../../../schema/postgres/take_over_turns.sql");
            (first, session.rows(take, &[&cycle, &first, &last, &owner, &former]).await?, true)
        } else {
            let (next, total): (i64, i64) = (column.get("next")?, column.get("total")?);
            if next >= total {
                let others = column.get("others_at_work")?;
                if others {
                    expire_dead(session).await?;
                }
                let claimed = if others { Claimed::OthersAtWork } else { Claimed::NothingLeft };
                return without(claimed, has_lead);
            }
            let last = next + size_of_ticket(total - next, column.get("workers")?, most);
            (next, take_new(session, cycle, owner, next, last).await?, false)
        };
    let turns = read_turns(session, cycle, &taken).await?;
    let patients = turns.iter().map(|turn| (turn.lease.person().clone(), turn.lease.fence)).collect();
    Ok(Taken {
        claimed: Claimed::Turns(turns),
        ticket: Some(Ticket { first, patients, was_anothers }),
        has_lead,
        is_planned: true,
    })
}

/// Gives out a new ticket. Returns the ordinals of its turns that are not void.
async fn take_new(
    session: &Session,
    cycle: i64,
    owner: &str,
    next: i64,
    last: i64,
) -> Result<Vec<Row>, Undone> {
    session.execute("UPDATE shared_cycle SET next = $2 WHERE id = $1", &[&cycle, &last]).await?;
    let note = "INSERT INTO ticket (cycle, first, last, worker) VALUES ($1, $2, $3, $4)";
    session.execute(note, &[&cycle, &next, &last, &owner]).await?;
    let take = include_str!("../../../schema/postgres/take_turns.sql");
    session.rows(take, &[&cycle, &next, &last, &owner]).await
}

/// Returns how many turns are taken together: fewer towards the end, so that nobody has many of the last ones, nor
/// all of few.
fn size_of_ticket(left: i64, workers: i64, most: usize) -> i64 {
    (left / (workers.max(1) * 4)).clamp(1, count(most as u64).max(1))
}

fn select_turns() -> String {
    format!(
        "SELECT {}, t.mode AS turn_mode, t.types AS turn_types, t.consents AS turn_consents
           FROM turn AS t JOIN checkpoint AS c ON c.person_id = t.person_id",
        checkpoint::COLUMNS
    )
}

async fn read_turns(session: &Session, cycle: i64, taken: &[Row]) -> Result<Vec<Turn>, Undone> {
    let ordinals = taken.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    if ordinals.is_empty() {
        return Ok(Vec::new());
    }
    let read = format!("{} WHERE t.cycle = $1 AND t.ordinal = ANY($2) ORDER BY t.ordinal", select_turns());
    session.rows(&read, &[&cycle, &ordinals]).await?.iter().map(turn_of).collect()
}

fn turn_of(row: &Row) -> Result<Turn, Undone> {
    let column = Columns(row);
    let mode: Option<String> = column.get("turn_mode")?;
    Ok(Turn {
        lease: Lease { checkpoint: checkpoint::read(row)?, fence: column.get("fence")? },
        mode: mode.as_deref().and_then(PullMode::parse),
        types: TypeFilter::parse(&column.get::<String>("turn_types")?),
        consents: column.get("turn_consents")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_grow_smaller_towards_the_end() {
        for (left, workers, most, expected) in [
            (1_000, 1, 64, 64),
            (10, 1, 64, 2),
            (1_000, 2, 64, 64),
            (100, 2, 64, 12),
            (7, 2, 64, 1),
            (1, 8, 64, 1),
            (1_000, 8, 4, 4),
        ] {
            assert_eq!(size_of_ticket(left, workers, most), expected, "{left} {workers} {most}");
        }
    }
}
