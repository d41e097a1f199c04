//! PostgreSQL's errors in the door's words. None of them holds a value.

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::warehouse::failure::StoreFailed;

/// Why work is not in the database.
#[derive(Clone, Debug)]
pub(super) enum Undone {
    Failed(StoreFailed),
    /// A move of a pull hit no row: another pull has taken over.
    Superseded,
    /// The connection is gone, or the server takes no work for now: it may be tried again.
    Lost(String),
}

impl From<StoreFailed> for Undone {
    fn from(failed: StoreFailed) -> Self {
        Self::Failed(failed)
    }
}

impl From<Error> for Undone {
    fn from(error: Error) -> Self {
        match error.as_db_error() {
            Some(told) => of_server(told),
            // What is sent and received is ours: one that does not fit is a fault of this program's.
            None if is_conversion(&error) => Self::Failed(StoreFailed::Engine(error.to_string())),
            None => Self::Lost(innermost(&error)),
        }
    }
}

/// Of work that is not tried again.
impl From<Error> for StoreFailed {
    fn from(error: Error) -> Self {
        Undone::from(error).into_failure()
    }
}

impl Undone {
    /// Returns the failure, for work that no pull can be superseded in and that is not tried again.
    pub(super) fn into_failure(self) -> StoreFailed {
        match self {
            Self::Failed(failed) => failed,
            Self::Superseded => StoreFailed::Engine("a pull was superseded".to_owned()),
            Self::Lost(why) => StoreFailed::Away(why),
        }
    }
}

fn is_conversion(error: &Error) -> bool {
    let text = error.to_string();
    text.starts_with("error serializing") || text.starts_with("error deserializing")
}

/// Returns what the cause of all says: the others only name what was tried.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// What may be over by itself: connections that end, a server that starts, or that serves nobody more,
/// a lock that did not come, a standby that becomes the primary.
const PASSING: [SqlState; 15] = [
    SqlState::CONNECTION_EXCEPTION,
    SqlState::CONNECTION_DOES_NOT_EXIST,
    SqlState::CONNECTION_FAILURE,
    SqlState::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
    SqlState::SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION,
    SqlState::PROTOCOL_VIOLATION,
    SqlState::ADMIN_SHUTDOWN,
    SqlState::CRASH_SHUTDOWN,
    SqlState::CANNOT_CONNECT_NOW,
    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    SqlState::TOO_MANY_CONNECTIONS,
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::T_R_DEADLOCK_DETECTED,
    SqlState::LOCK_NOT_AVAILABLE,
    SqlState::READ_ONLY_SQL_TRANSACTION,
];

fn of_server(told: &DbError) -> Undone {
    let code = told.code();
    if PASSING.contains(code) {
        return Undone::Lost(describe(told));
    }
    Undone::Failed(match *code {
        SqlState::DISK_FULL => StoreFailed::DiskFull,
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => StoreFailed::Damaged(describe(told)),
        SqlState::INSUFFICIENT_PRIVILEGE => StoreFailed::Engine(format!(
            "{}; `healthex-sync migrate`, run by the schema's owner, grants the worker's role what it needs",
            describe(told)
        )),
        SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN | SqlState::INVALID_SCHEMA_NAME => {
            StoreFailed::Engine(format!(
                "{}; run `healthex-sync migrate` as the schema's owner",
                describe(told)
            ))
        }
        SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT => {
            StoreFailed::Refused(format!(
                "{}: a pooler in between lends each transaction another connection; set warehouse.prepared = false",
                describe(told)
            ))
        }
        _ if code.code().starts_with("22") || code.code().starts_with("23") || code.code() == "54000" => {
            StoreFailed::Data(describe(told))
        }
        _ => StoreFailed::Engine(describe(told)),
    })
}

/// Says what the server says, as far as that names no value: its message where it is about the server,
/// the connection, roles or tables; elsewhere its number and what it is about.
pub(super) fn describe(told: &DbError) -> String {
    let code = told.code().code();
    let names_no_value = ["08", "25", "26", "28", "3D", "3F", "40", "42", "53", "55", "57"];
    if names_no_value.iter().any(|class| code.starts_with(class)) {
        return format!("{} ({code})", told.message());
    }
    let about = told.constraint().or(told.column()).or(told.table());
    match about {
        Some(name) => format!("PostgreSQL refuses it with {code}, about {name}"),
        None => format!("PostgreSQL refuses it with {code}"),
    }
}
