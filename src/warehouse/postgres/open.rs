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
    let server = pool.server().to_string();
    let connection = match pool.connection().await {
        Ok(connection) => connection,
        Err(undone) => {
            return Err(OpenFailed::Server { server, why: undone.into_failure().to_string() });
        }
    };
    let statement = "SELECT to_regclass($1) IS NOT NULL";
    let table = format!("{}.migration", pool.server().schema);
    let failed = |error: tokio_postgres::Error| OpenFailed::Server {
        server: server.clone(),
        why: Undone::from(error).into_failure().to_string(),
    };
    let is_there: bool = connection.query_one(statement, &[&table]).await.map_err(failed)?.get(0);
    if !is_there {
        return Err(OpenFailed::NotMigrated { server });
    }
    let version: i64 =
        connection.query_one("SELECT max(version) FROM migration", &[]).await.map_err(failed)?.get(0);
    let known = crate::warehouse::schema_version();
    match version {
        version if version > known => Err(OpenFailed::NewerServerSchema { server, version, known }),
        version if version < known => Err(OpenFailed::NotMigrated { server }),
        _ => Ok(()),
    }
}

/// Refuses a warehouse that another FHIR server filled, unless it is to be taken over.
pub(super) async fn expect_server(
    pool: &Pool,
    place: &Place,
    other_server: OtherServer,
) -> Result<(), OpenFailed> {
    let failed = |undone: Undone| OpenFailed::Server {
        server: pool.server().to_string(),
        why: undone.into_failure().to_string(),
    };
    let session = pool.begin(Begin::Write).await.map_err(failed)?;
    match cycle_ends::noted_text(&session, BASE_URL).await.map_err(failed)? {
        Some(filled_from) if filled_from == place.base_url => {
            session.rollback().await;
            return Ok(());
        }
        Some(filled_from) if other_server == OtherServer::Refuse => {
            session.rollback().await;
            return Err(OpenFailed::OtherServer {
                path: pool.server().to_string().into(),
                filled_from,
                base_url: place.base_url.clone(),
            });
        }
        Some(_) => adopt(&session, &place.base_url).await.map_err(failed)?,
        None => cycle_ends::note_text(&session, BASE_URL, &place.base_url).await.map_err(failed)?,
    }
    session.commit().await.map_err(failed)
}

async fn adopt(session: &Session, base_url: &str) -> Result<(), Undone> {
    let adopt = include_str!("../../../schema/adopt_server.sql");
    session.batch(&adopt.replace("{no_pull}", include_str!("../../../schema/no_pull.sql"))).await?;
    cycle_ends::note_text(session, BASE_URL, base_url).await
}
