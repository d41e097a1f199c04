//! Whose turn it is in a cycle that several workers share, written down before anybody takes one.
//!
//! Promise: all turns are there, or none is. However many patients there are, only so many are in memory at a time.

use std::sync::Arc;

use super::failure::Undone;
use super::lease::expect_held;
use super::open_warehouse::Engine;
use super::session::Session;
use super::values::{Param, count};
use super::{checkpoint, failover};
use crate::plan::{PullMode, Timestamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::turn::{PlanPiece, Planned, Turn};

impl Engine {
    pub(in crate::warehouse) async fn plan_turns<R: Send + 'static>(
        &self,
        plan: Arc<PlanPiece<R>>,
        now: Timestamp,
    ) -> Result<Vec<R>, StoreFailed> {
        let (cycle, owner) = (self.membership()?.cycle, self.owner());
        self.write(move |session| {
            let (plan, owner) = (plan.clone(), owner.clone());
            Box::pin(async move {
                let planned = plan_all(session, cycle, &*plan, now).await?;
                // Reading so many may have taken longer than the right to lead lasts.
                expect_held(session, &owner).await?;
                Ok(planned)
            })
        })
        .await
    }
}

async fn plan_all<R>(
    session: &Session,
    cycle: i64,
    plan: &PlanPiece<R>,
    now: Timestamp,
) -> Result<Vec<R>, Undone> {
    checkpoint::begin_reading_free(session).await?;
    let (mut total, mut beside) = (0, Vec::new());
    loop {
        let mut patients = checkpoint::next_free(session).await?;
        if patients.is_empty() {
            break;
        }
        let checkpoints = patients.iter_mut().map(|patient| &mut patient.checkpoint);
        failover::forget_delays(session, checkpoints).await?;
        let Planned { turns, others } = plan(patients);
        note_turns(session, cycle, total, &turns).await?;
        total += count(turns.len() as u64);
        beside.push(others);
    }
    let planned = "UPDATE shared_cycle SET planned_at = $2, total = $3 WHERE id = $1 AND ended_at IS NULL";
    let changed = session.execute(planned, &[&cycle, &now, &total]).await?;
    checkpoint::expect_one(changed)?;
    Ok(beside)
}

/// Writes turns down that follow `before` others.
async fn note_turns(session: &Session, cycle: i64, before: i64, turns: &[Turn]) -> Result<(), Undone> {
    let ordinals: Vec<i64> = (1..=count(turns.len() as u64)).map(|at| before + at).collect();
    let persons: Vec<&str> = turns.iter().map(|turn| turn.lease.person().as_str()).collect();
    let fences: Vec<i64> = turns.iter().map(|turn| turn.lease.fence).collect();
    let modes: Vec<Option<&str>> = turns.iter().map(|turn| turn.mode.map(PullMode::as_str)).collect();
    let types: Vec<String> = turns.iter().map(|turn| turn.types.to_string()).collect();
    let consents: Vec<bool> = turns.iter().map(|turn| turn.consents).collect();
    let planned: [&dyn Param; 7] = [&cycle, &ordinals, &persons, &fences, &modes, &types, &consents];
    session.execute(include_str!("../../../schema/postgres/plan_turns.sql"), &planned).await?;
    Ok(())
}
