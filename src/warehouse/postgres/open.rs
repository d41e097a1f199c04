//! What must be true of a server before anything is done with it.

use std::fmt;
use std::time::Duration;

use tokio_postgres::Row;

use super::cycle_ends;
use super::failure::Undone;
use super::pool::Pool;
use super::runtime;
use super::schema::VERSION;
use super::server_state::ServerState;
use super::session::{Begin, Session};
use crate::clock;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::place::{OtherServer, Place, Server};

pub(super) const BASE_URL: &str = "base_url";
/// In `about` while a move is under way: the file, and as of when.
pub(super) const MOVING_FROM: &str = "moving_from";

/// How often a server that is away is tried for before that is told, and how long in between.
const TRIES: usize = 4;
const PAUSE: Duration = Duration::from_millis(200);

/// Opens, and tries again for a moment where a connection was lost.
pub(super) fn patiently<T>(open: impl Fn() -> Result<T, OpenFailed>) -> Result<T, OpenFailed> {
    for _ in 1..TRIES {
        match open() {
            // Where that cannot be waited for, it is tried at once.
            Err(failed) if failed.may_pass() => drop(runtime::wait(async { clock::sleep(PAUSE).await })),
            opened => return opened,
        }
    }
    open()
}

/// Refuses a server without this program's schema, or with another's.
pub(super) async fn expect_schema(pool: &Pool) -> Result<ServerState, OpenFailed> {
    let server = pool.server();
    let mut state = ServerState::look(pool).await?;
    state.expect_server(server)?;
    state.expect_ours(server)?;
    if state.has_schema && !state.may_use {
        let ServerState { role, .. } = &state;
        return Err(server.unusable(format!(
            "{role} may not use the schema {schema}; as its owner: GRANT {schema}_worker TO {role}",
            schema = server.schema
        )));
    }
    state.schema_version = schema_version(pool, &state).await?;
    match state.schema_version {
        Some(version) if version > VERSION && needs_worker(pool).await? > VERSION => {
            Err(newer_schema(server, version))
        }
        // One that is newer and can be worked with is the next release's, while workers are upgraded one by one.
        Some(version) if version >= VERSION => Ok(state),
        _ => Err(OpenFailed::NotMigrated { server: server.to_string() }),
    }
}

/// Returns which schema a program has to know at least to work with this one, which has come up to this program's.
async fn needs_worker(pool: &Pool) -> Result<i64, OpenFailed> {
    let statement = "SELECT max(coalesce(needs_worker, version)) FROM migration";
    let look =
        pool.look(|session| Box::pin(async move { Ok(session.row(statement, &[]).await?.try_get(0)?) }));
    look.await.map_err(|undone| pool.server().failed(undone.into_failure()))
}

/// Refuses a server that takes no writes, or none from the role that has come in.
pub(super) async fn expect_to_write(pool: &Pool, state: &ServerState) -> Result<(), OpenFailed> {
    let server = pool.server();
    state.expect_writable(server)?;
    match lacking_grants(pool).await?.as_slice() {
        [] => Ok(()),
        lacking => {
            let (role, schema) = (&state.role, &server.schema);
            let lacking: Vec<String> = lacking.iter().map(ToString::to_string).collect();
            Err(server.unusable(format!(
                "{role} may not {}; `healthex-sync migrate`, run by the owner of the schema, grants that to {schema}_worker: GRANT {schema}_worker TO {role}, if it is another role",
                lacking.join(", nor ")
            )))
        }
    }
}

/// A privilege, and the tables on which the role that has come in does not have it.
pub(super) struct LackingGrant {
    privilege: String,
    tables: Vec<String>,
}

impl fmt::Display for LackingGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 3;
        let Self { privilege, tables } = self;
        write!(f, "{privilege} on {}", tables[..tables.len().min(SHOWN_MAX)].join(", "))?;
        match tables.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Returns what whoever writes needs, and the role that has come in lacks.
pub(super) async fn lacking_grants(pool: &Pool) -> Result<Vec<LackingGrant>, OpenFailed> {
    let schema = pool.server().schema.clone();
    let look = pool.look(|session| {
        Box::pin(async move {
            let statement = include_str!("../../../schema/postgres/lacking_grants.sql");
            let found = session.rows(statement, &[&schema]).await?;
            let grant = |row: &Row| {
                Ok(LackingGrant { privilege: row.try_get("privilege")?, tables: row.try_get("tables")? })
            };
            found.iter().map(grant).collect::<Result<Vec<_>, Undone>>()
        })
    });
    look.await.map_err(|undone| pool.server().failed(undone.into_failure()))
}

/// Returns the version of the schema, if there is one.
pub(super) async fn schema_version(pool: &Pool, state: &ServerState) -> Result<Option<i64>, OpenFailed> {
    if !state.has_migrations {
        return Ok(None);
    }
    let statement = format!("SELECT max(version) FROM {}.migration", pool.server().schema);
    let look =
        pool.look(|session| Box::pin(async move { Ok(session.row(&statement, &[]).await?.try_get(0)?) }));
    look.await.map_err(|undone| pool.server().failed(undone.into_failure()))
}

fn newer_schema(server: &Server, version: i64) -> OpenFailed {
    OpenFailed::NewerServerSchema { server: server.to_string(), version, known: VERSION }
}

/// Refuses a schema that a newer program has made, where this one would make it its own.
pub(super) fn expect_not_newer(server: &Server, version: Option<i64>) -> Result<(), OpenFailed> {
    match version {
        Some(version) if version > VERSION => Err(newer_schema(server, version)),
        _ => Ok(()),
    }
}

/// Refuses a warehouse that a file is being moved into.
pub(super) async fn expect_moved(pool: &Pool) -> Result<(), OpenFailed> {
    let look = pool.look(|session| Box::pin(cycle_ends::noted_text(session, MOVING_FROM)));
    match look.await.map_err(|undone| pool.server().failed(undone.into_failure()))? {
        Some(from) => Err(pool.server().unusable(format!(
            "a move from {from} is not finished; `healthex-sync migrate --from FILE` goes on with it"
        ))),
        None => Ok(()),
    }
}

/// By which FHIR server a warehouse was filled.
pub(super) enum FilledBy {
    This,
    /// It is not noted.
    Unnamed,
    /// It holds nothing, and was made for another, which may have been misspelt.
    NobodyYet,
    Another(String),
}

pub(super) async fn filled_by(session: &Session, base_url: &str) -> Result<FilledBy, Undone> {
    let noted = cycle_ends::noted_text(session, BASE_URL).await?;
    let another = match noted {
        None => return Ok(FilledBy::Unnamed),
        Some(noted) if noted == base_url => return Ok(FilledBy::This),
        Some(another) => another,
    };
    let nothing = session.row(include_str!("../../../schema/holds_nothing.sql"), &[]).await?;
    Ok(if nothing.try_get(0)? { FilledBy::NobodyYet } else { FilledBy::Another(another) })
}

/// Refuses a warehouse that another FHIR server filled. Returns false where it was made for another and holds nothing.
pub(super) fn expect_filled_by(place: &Place, filled: FilledBy) -> Result<bool, OpenFailed> {
    match filled {
        FilledBy::This | FilledBy::Unnamed => Ok(true),
        FilledBy::NobodyYet => Ok(false),
        FilledBy::Another(filled_from) => Err(OpenFailed::OtherServer {
            path: place.location.to_string().into(),
            filled_from,
            base_url: place.base_url.clone(),
        }),
    }
}

/// Refuses one that another FHIR server filled, where nothing is to be changed about that.
pub(super) async fn expect_server(pool: &Pool, place: &Place) -> Result<(), OpenFailed> {
    let base_url = place.base_url.clone();
    let look = pool.look(|session| Box::pin(async move { filled_by(session, &base_url).await }));
    let filled = look.await.map_err(|undone| pool.server().failed(undone.into_failure()))?;
    expect_filled_by(place, filled).map(drop)
}

/// Refuses it too, unless it is to be taken over; and notes by whom a new one is filled.
pub(super) async fn take_server(
    pool: &Pool,
    place: &Place,
    other_server: OtherServer,
) -> Result<(), OpenFailed> {
    let failed = |undone: Undone| pool.server().failed(undone.into_failure());
    let session = pool.begin(Begin::Write).await.map_err(failed)?;
    match filled_by(&session, &place.base_url).await.map_err(failed)? {
        FilledBy::Unnamed => {}
        FilledBy::NobodyYet => {
            session.batch(include_str!("../../../schema/forget_attempts.sql")).await.map_err(failed)?;
        }
        FilledBy::Another(_) if other_server == OtherServer::Adopt => {
            adopt(&session).await.map_err(failed)?;
        }
        filled @ (FilledBy::This | FilledBy::Another(_)) => {
            session.rollback().await;
            return expect_filled_by(place, filled).map(drop);
        }
    }
    cycle_ends::note_text(&session, BASE_URL, &place.base_url).await.map_err(failed)?;
    session.commit().await.map_err(failed)
}

async fn adopt(session: &Session) -> Result<(), Undone> {
    let adopt = include_str!("../../../schema/adopt_server.sql");
    session.batch(&adopt.replace("{no_pull}", include_str!("../../../schema/no_pull.sql"))).await
}
