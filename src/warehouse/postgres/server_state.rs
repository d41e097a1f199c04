//! What a server, the schema and the role that has come in are, as one look finds them.

use tokio_postgres::Row;

use super::failure::Undone;
use super::pool::Pool;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::place::Server;

/// The oldest release with all that is asked of one.
const OLDEST: i64 = 15;

#[expect(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub(super) struct ServerState {
    pub(super) version: i64,
    pub(super) version_text: String,
    pub(super) encoding: String,
    pub(super) is_standby: bool,
    pub(super) is_read_only: bool,
    pub(super) has_lz4: bool,
    pub(super) role: String,
    /// Of the schema, where there is one.
    pub(super) owner: String,
    pub(super) may_create_roles: bool,
    pub(super) has_schema: bool,
    pub(super) is_ours: bool,
    pub(super) has_tables: bool,
    pub(super) may_use: bool,
    pub(super) has_migrations: bool,
    pub(super) has_resources: bool,
    /// Of each table of resources.
    pub(super) partitions: i64,
    /// How many of the schema's roles there are, and how many of them have settings.
    pub(super) roles: i64,
    pub(super) settings: i64,
    /// Which version the schema has, once that was looked for.
    pub(super) schema_version: Option<i64>,
}

impl ServerState {
    pub(super) async fn look(pool: &Pool) -> Result<Self, OpenFailed> {
        let schema = pool.server().schema.clone();
        let look = pool.look(|session| {
            Box::pin(async move {
                let statement = include_str!("../../../schema/postgres/state_of_schema.sql");
                of_row(&session.row(statement, &[&schema]).await?)
            })
        });
        look.await.map_err(|undone| pool.server().failed(undone.into_failure()))
    }

    /// Refuses a server that cannot hold a warehouse.
    pub(super) fn expect_server(&self, server: &Server) -> Result<(), OpenFailed> {
        let Self { version, version_text, encoding, .. } = self;
        if version / 10_000 < OLDEST {
            return Err(server.unusable(format!(
                "the server is PostgreSQL {version_text}, and {OLDEST} or later is needed"
            )));
        }
        if encoding != "UTF8" {
            return Err(server.unusable(format!(
                "the database's encoding is {encoding}, and records are UTF-8; make one with `createdb --encoding UTF8 --template template0 NAME`"
            )));
        }
        Ok(())
    }

    /// Refuses a server that takes no writes.
    pub(super) fn expect_writable(&self, server: &Server) -> Result<(), OpenFailed> {
        if self.is_standby {
            return Err(server.away(
                "the server is a standby, which cannot be written; name the primary in warehouse.url, or all of them, with ?target_session_attrs=read-write",
            ));
        }
        if self.is_read_only {
            return Err(server.away(format!(
                "the server is read-only for {} (default_transaction_read_only); ALTER ROLE or ALTER DATABASE … RESET default_transaction_read_only",
                self.role
            )));
        }
        Ok(())
    }

    /// Refuses a schema that another program has filled.
    pub(super) fn expect_ours(&self, server: &Server) -> Result<(), OpenFailed> {
        if self.has_tables && !self.is_ours {
            return Err(server.unusable(format!(
                "the schema {} holds something of another program; nothing was written; name another in warehouse.schema",
                server.schema
            )));
        }
        Ok(())
    }
}

fn of_row(row: &Row) -> Result<ServerState, Undone> {
    Ok(ServerState {
        version: row.try_get("server_version")?,
        version_text: row.try_get("server_version_text")?,
        encoding: row.try_get("encoding")?,
        is_standby: row.try_get("is_standby")?,
        is_read_only: row.try_get("is_read_only")?,
        has_lz4: row.try_get("has_lz4")?,
        role: row.try_get("role")?,
        owner: row.try_get("owner")?,
        may_create_roles: row.try_get("may_create_roles")?,
        has_schema: row.try_get("has_schema")?,
        is_ours: row.try_get("is_ours")?,
        has_tables: row.try_get("has_tables")?,
        may_use: row.try_get("may_use")?,
        has_migrations: row.try_get("has_migrations")?,
        has_resources: row.try_get("has_resources")?,
        partitions: row.try_get("partitions")?,
        roles: row.try_get("roles")?,
        settings: row.try_get("settings")?,
        schema_version: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_new_enough_and_its_database_utf8() {
        let server = Server::at("postgres://worker@db.example/study".to_owned(), "healthex-sync".into());
        let check = |version: i64, encoding: &str, why: Option<&str>| {
            let state = ServerState {
                version,
                version_text: "as told".to_owned(),
                encoding: encoding.to_owned(),
                is_standby: false,
                is_read_only: false,
                has_lz4: true,
                role: "worker".to_owned(),
                owner: "owner".to_owned(),
                may_create_roles: false,
                has_schema: true,
                is_ours: true,
                has_tables: true,
                may_use: true,
                has_migrations: true,
                has_resources: true,
                partitions: 0,
                roles: 3,
                schema_version: None,
                settings: 2,
            };
            let told = state.expect_server(&server).map_err(|failed| failed.to_string());
            match why {
                None => assert_eq!(told, Ok(()), "{version} {encoding}"),
                Some(why) => assert!(told.as_ref().is_err_and(|told| told.contains(why)), "{told:?}"),
            }
        };
        check(150_018, "UTF8", None);
        check(180_000, "UTF8", None);
        check(140_009, "UTF8", Some("PostgreSQL as told, and 15 or later is needed"));
        check(160_000, "SQL_ASCII", Some("encoding is SQL_ASCII"));
    }
}
