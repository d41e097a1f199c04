//! What `check` wants to know of a server and of the role that comes in. Only looks.

use std::sync::Arc;

use super::analyst_tables::AnalystTables;
use super::failure::Undone;
use super::pool::Pool;
use super::{analyst_tables, checkpoint, failover, open, pool, runtime, shared_cycle};
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::place::{Place, Server};
use crate::warehouse::report::{ServerPreflight, Standbys, Way};

pub(in crate::warehouse) fn preflight(
    place: &Place,
    server: &Arc<Server>,
) -> Result<ServerPreflight, OpenFailed> {
    runtime::wait(look(place, server)).map_err(|error| server.unusable(error))?
}

async fn look(place: &Place, server: &Arc<Server>) -> Result<ServerPreflight, OpenFailed> {
    let pool = Pool::new(server)?;
    let failed = |undone: Undone| server.failed(undone.into_failure());
    let state = open::expect_schema(&pool).await?;
    state.expect_writable(server)?;
    let lacking = open::lacking_grants(&pool).await?.iter().map(ToString::to_string).collect();
    let schema = server.schema.clone();
    let looked = pool.look(|session| {
        Box::pin(async move {
            let row = session.row(include_str!("../../../schema/postgres/preflight.sql"), &[&schema]).await?;
            let patients = checkpoint::all(session).await?;
            let workers = shared_cycle::told(session).await?.workers;
            Ok((row, patients, analyst_tables::stored(session).await?, workers))
        })
    });
    let (row, patients, stored, workers) = looked.await.map_err(failed)?;
    let flag = |name: &str| row.try_get::<_, bool>(name).map_err(|error| failed(error.into()));
    let text = |name: &str| row.try_get::<_, String>(name).map_err(|error| failed(error.into()));
    let number = |name: &str| row.try_get::<_, i64>(name).map_err(|error| failed(error.into()));
    let port = number("port")?;
    let tls = text("tls")?;
    let way = match tls.as_str() {
        "" if pool::is_on_this_machine(server) => Way::ThisMachine,
        "" => Way::ThroughAnother,
        version => Way::Tls(version.to_owned()),
    };
    let (_, other_tables) = AnalystTables::new(&place.views).followed(&stored);
    let names = text("standbys")?;
    let standbys = Standbys {
        names: (!names.is_empty()).then_some(names),
        commits: text("synchronous_commit")?,
        connected: number("connected")?,
        // Only some roles are told of what state each is in.
        waited_for: flag("sees_standbys")?.then_some(number("waited_for")?),
    };
    let tells_failovers = match pool.look(|session| Box::pin(failover::history(session))).await {
        Ok(_) => true,
        Err(Undone::Failed(_)) => false,
        Err(undone) => return Err(failed(undone)),
    };
    Ok(ServerPreflight {
        version: state.version_text,
        schema: state.schema_version.unwrap_or_default(),
        role: state.role,
        way,
        // Over a socket the server has none.
        is_direct: port == 0 || pool::ports(server).iter().any(|own| i64::from(*own) == port),
        may_define: flag("may_define")?,
        lacking,
        has_settings: flag("has_no_seqscan")? && flag("has_idle_timeout")?,
        other_tables,
        has_checksums: flag("has_checksums")?,
        has_fsync: flag("has_fsync")?,
        standbys,
        tells_failovers,
        logs_values: flag("logs_values")?,
        patients,
        workers,
    })
}
