//! The door's agreement on a roster: looked at first, and written only where another comes into force.

use std::sync::Arc;

use super::open_warehouse::Engine;
use super::pool::Pool;
use super::reader::Reader;
use super::rosters::{Claim, For, kept, publish, standing, take_if_new};
use super::{open, runtime};
use crate::plan::Timestamp;
use crate::plan::roster::{RosterHash, RosterPatients, RosterStanding, RosterVersion};
use crate::warehouse::beside::roster_memory;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::place::Server;
use crate::warehouse::rosters::{OwnRoster, RosterInForce};

impl Engine {
    pub(in crate::warehouse) async fn agree_on_roster(
        &self,
        own: Option<OwnRoster<'_>>,
        now: Timestamp,
    ) -> Result<RosterInForce, StoreFailed> {
        let whom = if self.leads() { For::Planning } else { For::TakingPart };
        let Some(own) = own else {
            return self.look(|session| Box::pin(kept(session, whom))).await;
        };
        let claim = Claim::of(own, &self.pool().server().beside);
        let found = self.look(|session| {
            let claim = claim.clone();
            Box::pin(async move { standing(session, &claim).await })
        });
        let agreed = match found.await? {
            RosterStanding::Old => self.look(|session| Box::pin(kept(session, whom))).await?,
            RosterStanding::InForce => RosterInForce::Own,
            RosterStanding::New => {
                let offered = Arc::new((claim, own.patients.clone()));
                let taken = self.write_freely(|session| {
                    let offered = offered.clone();
                    Box::pin(async move { take_if_new(session, &offered.0, &offered.1, whom, now).await })
                });
                taken.await?
            }
        };
        if matches!(agreed, RosterInForce::Own) && own.is_new {
            roster_memory::remember(&self.pool().server().beside, own.hash);
        }
        Ok(agreed)
    }
}

impl Reader {
    pub(in crate::warehouse) fn roster_in_force(
        &self,
        own: Option<OwnRoster<'_>>,
    ) -> Result<RosterInForce, StoreFailed> {
        let claim = own.map(|own| Claim::of(own, self.beside()));
        self.ask(|session| {
            Box::pin(async move {
                match claim {
                    Some(claim) if standing(session, &claim).await? != RosterStanding::Old => {
                        Ok(RosterInForce::Own)
                    }
                    _ => kept(session, For::Planning).await,
                }
            })
        })
    }
}

/// Puts a roster in force, whether or not it was before. Returns the one that it takes the place of; itself where it is
/// in force.
pub(in crate::warehouse) fn publish_roster(
    server: &Arc<Server>,
    lines: &RosterPatients,
    now: Timestamp,
) -> Result<Option<RosterVersion>, OpenFailed> {
    let published = async {
        let pool = Pool::new(server)?;
        let state = open::expect_schema(&pool).await?;
        open::expect_to_write(&pool, &state).await?;
        let publish = publish(&pool, lines, now).await;
        let former = publish.map_err(|undone| server.failed(undone.into_failure()))?;
        roster_memory::remember(&server.beside, &RosterHash::of(lines));
        Ok(former)
    };
    runtime::wait(published).map_err(|error| server.unusable(error))?
}
