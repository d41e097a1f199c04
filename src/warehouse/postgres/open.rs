//! What must be true of a server before anything is done with it.

use super::cycle_ends;
use super::failure::Undone;
use super::pool::Pool;
use super::session::{Begin, Session};
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::place::{OtherServer, Place};

pub(super) const BASE_URL: &str = "base_url";

/// Refuses a server without this program's schema, or with another's.
pub(super) async fn expect_schema(pool: &Pool) -> Result<(), OpenFailed> {
    let (server, known) = (pool.server().to_string(), crate::warehouse::schema_version());
    match schema_version(pool).await.map_err(|undone| pool.server().unusable(undone.into_failure()))? {
        Some(version) if version > known => Err(OpenFailed::NewerServerSchema { server, version, known }),
        Some(version) if version == known => Ok(()),
        _ => Err(OpenFailed::NotMigrated { server }),
    }
}

async fn schema_version(pool: &Pool) -> Result<Option<i64>, Undone> {
    let table = format!("{}.migration", pool.server().schema);
    let look = pool.look(|session| {
        Box::pin(async move {
            let is_there = session.row("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?;
            if !is_there.try_get(0)? {
                return Ok(None);
            }
            Ok(session.row("SELECT max(version) FROM migration", &[]).await?.try_get(0)?)
        })
    });
    look.await
}

/// Refuses a warehouse that another FHIR server filled.
pub(super) fn expect_filled_from(place: &Place, filled_from: Option<String>) -> Result<(), OpenFailed> {
    match filled_from {
        Some(filled_from) if filled_from != place.base_url => Err(OpenFailed::OtherServer {
            path: place.location.to_string().into(),
            filled_from,
            base_url: place.base_url.clone(),
        }),
        _ => Ok(()),
    }
}

/// Refuses it too, unless it is to be taken over; and notes by whom a new one is filled.
pub(super) async fn take_server(
    pool: &Pool,
    place: &Place,
    other_server: OtherServer,
) -> Result<(), OpenFailed> {
    let failed = |undone: Undone| pool.server().unusable(undone.into_failure());
    let session = pool.begin(Begin::Write).await.map_err(failed)?;
    let filled_from = cycle_ends::noted_text(&session, BASE_URL).await.map_err(failed)?;
    let is_new = filled_from.is_none();
    match expect_filled_from(place, filled_from) {
        Ok(()) if is_new => {
            cycle_ends::note_text(&session, BASE_URL, &place.base_url).await.map_err(failed)?;
        }
        Err(OpenFailed::OtherServer { .. }) if other_server == OtherServer::Adopt => {
            adopt(&session, &place.base_url).await.map_err(failed)?;
        }
        known => {
            session.rollback().await;
            return known;
        }
    }
    session.commit().await.map_err(failed)
}

async fn adopt(session: &Session, base_url: &str) -> Result<(), Undone> {
    let adopt = include_str!("../../../schema/adopt_server.sql");
    session.batch(&adopt.replace("{no_pull}", include_str!("../../../schema/no_pull.sql"))).await?;
    cycle_ends::note_text(session, BASE_URL, base_url).await
}
