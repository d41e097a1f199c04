//! Makes the schema of a warehouse, and brings it to this program's version.
//!
//! Promise: one at a time, however many try, and a schema that is there already stays as it is. Absent on purpose:
//! passwords of roles, and what only a database's administrator may do: that is told.

use std::sync::Arc;

use tokio_postgres::error::SqlState;

use super::analyst_tables::AnalystTables;
use super::failure::{Undone, describe};
use super::pool::Pool;
use super::schema::{SchemaShape, VERSION, roles, script};
use super::server_state::ServerState;
use super::view_script::first_views;
use super::{analyst_tables, open, runtime, view_build};
use crate::plan::{Timestamp, stamp};
use crate::views::AnalystTable;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::place::Server;
use crate::warehouse::report::Migrated;

/// Of each schema.
const ROLES: i64 = 3;

pub(in crate::warehouse) fn migrate(
    server: &Arc<Server>,
    partitions: Option<u32>,
    views: &[AnalystTable],
    now: Timestamp,
) -> Result<Migrated, OpenFailed> {
    let migrated = runtime::wait(carry_out(server, partitions, views, now));
    migrated.map_err(|error| server.unusable(error))?
}

async fn carry_out(
    server: &Arc<Server>,
    partitions: Option<u32>,
    views: &[AnalystTable],
    now: Timestamp,
) -> Result<Migrated, OpenFailed> {
    let pool = Pool::new(server)?;
    let before = ServerState::look(&pool).await?;
    before.expect_server(server)?;
    before.expect_writable(server)?;
    before.expect_ours(server)?;
    let from_version = open::schema_version(&pool, &before).await?;
    open::expect_not_newer(server, from_version)?;
    let partitions = expect_same_partitions(server, &before, partitions)?;
    if before.may_create_roles {
        run(&pool, &roles(&server.schema)).await?;
    }
    let tables = AnalystTables::new(views);
    let first_views = first_views(&tables, &format!("timestamptz '{}'", stamp(now)));
    let shape = SchemaShape {
        schema: &server.schema,
        partitions,
        has_lz4: before.has_lz4,
        first_views: &first_views,
    };
    for transaction in shape.transactions() {
        run(&pool, &transaction).await?;
    }
    let after = ServerState::look(&pool).await?;
    // What a role makes is its own, and these are to be the owner's too.
    let as_owner = Pool::acting_as(server, &after.owner)?;
    let stored = as_owner.look(|session| Box::pin(analyst_tables::stored(session))).await;
    let stored = stored.map_err(|undone| server.failed(undone.into_failure()))?;
    let refused = if tables.are_stored_in(&stored) {
        Vec::new()
    } else {
        view_build::migrate(&as_owner, views, now).await?
    };
    let is_complete = after.roles == ROLES && after.settings > 0;
    Ok(Migrated {
        server: server.to_string(),
        version: VERSION,
        from_version,
        partitions,
        role: after.role,
        tables: views.len() - refused.len(),
        refused,
        missing_roles: (!is_complete).then(|| roles(&server.schema)),
    })
}

/// Returns the statements that [`migrate`] carries out, where nothing is yet.
pub(in crate::warehouse) fn migration_script(
    schema: &str,
    partitions: Option<u32>,
    views: &[AnalystTable],
) -> String {
    let first_views = first_views(&AnalystTables::new(views), "clock_timestamp()");
    let partitions = partitions.unwrap_or_default();
    script(SchemaShape { schema, partitions, has_lz4: true, first_views: &first_views })
}

/// Tables that are there in one piece cannot be divided by making some.
fn expect_same_partitions(
    server: &Server,
    found: &ServerState,
    wanted: Option<u32>,
) -> Result<u32, OpenFailed> {
    let found_in_parts = u32::try_from(found.partitions).unwrap_or_default();
    match wanted {
        Some(wanted) if found.has_resources && wanted != found_in_parts => {
            Err(server.unusable(format!(
                "its tables are there already, in {} each, and --partitions cannot divide them any more: make another schema (warehouse.schema) and pull into that",
                if found_in_parts == 0 { "one piece".to_owned() } else { format!("{found_in_parts} parts") }
            )))
        }
        Some(wanted) => Ok(wanted),
        None => Ok(found_in_parts),
    }
}

/// Carries statements out, with their transaction among them. A connection on which one has failed is given up.
async fn run(pool: &Pool, statements: &str) -> Result<(), OpenFailed> {
    let failed = |undone: Undone| pool.server().failed(undone.into_failure());
    let connection = pool.connection().await.map_err(failed)?;
    let carried_out = connection.batch_execute(statements).await;
    carried_out.map_err(|error| {
        drop(deadpool_postgres::Object::take(connection));
        failed(match error.as_db_error() {
            Some(told) if *told.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
                Undone::Failed(StoreFailed::Refused(format!(
                    "{}; run `healthex-sync migrate` as a role that may create schemas in this database, or have an administrator carry out what `healthex-sync migrate --print` prints",
                    describe(told)
                )))
            }
            _ => error.into(),
        })
    })
}
