//! One transaction, and the statements in it.
//!
//! Promise: `Ok` of a commit means that the server has committed. Absent on purpose: which
//! statements there are.

use std::future::Future;
use std::pin::Pin;

use deadpool_postgres::Object;
use futures_util::future::try_join_all;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, RowStream, SimpleQueryMessage};

use super::failure::Undone;
use super::values::Param;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::place::Server;

/// The parameters of a statement.
pub(super) type Params<'p> = &'p [&'p dyn Param];

/// The work of a transaction.
pub(super) type Step<'s, T> = Pin<Box<dyn Future<Output = Result<T, Undone>> + Send + 's>>;

/// A connection, and the transaction that is open on it. Dropped, it takes the transaction back.
pub(super) struct Session {
    /// `None` once it is given back.
    client: Option<Object>,
    prepared: bool,
    /// The transaction's number, where it may have to be asked after.
    number: Option<String>,
}

/// How a transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// To write.
    Write,
    /// To read as of one moment.
    Snapshot,
}

impl Session {
    /// Begins a transaction. One that writes is known by its number from its beginning.
    pub(super) async fn begin(client: Object, server: &Server, begin: Begin) -> Result<Self, Undone> {
        let mut session = Self { client: Some(client), prepared: server.prepared, number: None };
        let set = if server.prepared { String::new() } else { set_for_transaction(server) };
        match begin {
            Begin::Write => {
                let client = session.client()?;
                let begin = format!("BEGIN;{set}");
                let begun = client.batch_execute(&begin);
                let number = session.row("SELECT pg_current_xact_id()::text", &[]);
                let ((), row) = tokio::try_join!(async { Ok::<_, Undone>(begun.await?) }, number)?;
                session.number = Some(row.try_get(0)?);
            }
            Begin::Snapshot => {
                let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;{set}");
                session.client()?.batch_execute(&begin).await?;
            }
        }
        Ok(session)
    }

    fn client(&self) -> Result<&Object, Undone> {
        self.client.as_ref().ok_or(Undone::Failed(StoreFailed::WriterGone))
    }

    /// Returns the transaction's number.
    pub(super) fn number(&self) -> Option<String> {
        self.number.clone()
    }

    /// Runs a statement and returns its rows. Statements that are begun together are sent together.
    pub(super) async fn rows(&self, statement: &str, params: Params<'_>) -> Result<Vec<Row>, Undone> {
        let client = self.client()?;
        if self.prepared {
            let prepared = client.prepare_typed_cached(statement, &kinds(params)).await?;
            return Ok(client.query(&prepared, &values(params)).await?);
        }
        Ok(client.query_typed(statement, &with_kinds(params)).await?)
    }

    /// Reads on from a cursor. Its columns are those of what it was declared for, so that nothing is prepared.
    pub(super) async fn fetch(&self, statement: &str) -> Result<Vec<Row>, Undone> {
        Ok(self.client()?.query_typed(statement, &[]).await?)
    }

    /// Runs a statement that gives one row.
    pub(super) async fn row(&self, statement: &str, params: Params<'_>) -> Result<Row, Undone> {
        let rows = self.rows(statement, params).await?;
        let missing = || Undone::Failed(StoreFailed::Engine("a statement gave no row".to_owned()));
        rows.into_iter().next().ok_or_else(missing)
    }

    /// Runs a statement that gives one row or none.
    pub(super) async fn row_or_none(
        &self,
        statement: &str,
        params: Params<'_>,
    ) -> Result<Option<Row>, Undone> {
        Ok(self.rows(statement, params).await?.into_iter().next())
    }

    /// Runs a statement and returns how many rows it has changed.
    pub(super) async fn execute(&self, statement: &str, params: Params<'_>) -> Result<u64, Undone> {
        let client = self.client()?;
        if self.prepared {
            let prepared = client.prepare_typed_cached(statement, &kinds(params)).await?;
            return Ok(client.execute(&prepared, &values(params)).await?);
        }
        Ok(client.execute_typed(statement, &with_kinds(params)).await?)
    }

    /// Runs a statement whose rows are read one after the other.
    pub(super) async fn stream(&self, statement: &str, params: Params<'_>) -> Result<RowStream, Undone> {
        let client = self.client()?;
        if self.prepared {
            let prepared = client.prepare_typed_cached(statement, &kinds(params)).await?;
            return Ok(client.query_raw(&prepared, values(params)).await?);
        }
        Ok(client.query_typed_raw(statement, with_kinds(params)).await?)
    }

    /// Runs statements without parameters, one after the other.
    pub(super) async fn batch(&self, statements: &str) -> Result<(), Undone> {
        Ok(self.client()?.batch_execute(statements).await?)
    }

    /// Gets statements ready, so that those that follow are sent without waiting for an answer.
    pub(super) async fn prepare(&self, statements: &[(&str, Vec<Type>)]) -> Result<(), Undone> {
        if !self.prepared {
            return Ok(());
        }
        let client = self.client()?;
        try_join_all(statements.iter().map(|(text, kinds)| client.prepare_typed_cached(text, kinds))).await?;
        Ok(())
    }

    /// Commits. Sent by itself, once the answer to everything before is known, and asked after in the
    /// same breath: of a transaction that has failed, the server answers COMMIT with success.
    pub(super) async fn commit(mut self) -> Result<(), Undone> {
        let client = self.client.take().ok_or(Undone::Failed(StoreFailed::WriterGone))?;
        let status = self.number.as_deref().map(status_of).unwrap_or_default();
        match client.simple_query(&format!("COMMIT; {status}")).await {
            Ok(told) if self.number.is_none() || was_committed(&told) => Ok(()),
            Ok(_) => Err(Undone::Failed(StoreFailed::Engine("a commit was taken back".to_owned()))),
            Err(error) => {
                drop(Object::take(client));
                Err(error.into())
            }
        }
    }

    /// Takes everything back.
    pub(super) async fn rollback(mut self) {
        let Some(client) = self.client.take() else { return };
        if client.batch_execute("ROLLBACK").await.is_err() {
            drop(Object::take(client));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whoever was cut off leaves a transaction open, which goes with its connection.
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}

/// Returns what is set on each connection: analysts and operators see the same texts, whatever the server's own
/// settings are.
pub(super) fn settings(server: &Server) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("search_path", format!("{}, pg_catalog", server.schema)),
        ("timezone", "UTC".to_owned()),
        ("client_min_messages", "warning".to_owned()),
        // What looks at all tables at once would be compiled for seconds, and run for milliseconds.
        ("jit", "off".to_owned()),
    ];
    settings.extend(server.acting_as.clone().map(|role| ("role", role)));
    settings
}

/// Sets for a transaction what else is set for a connection.
fn set_for_transaction(server: &Server) -> String {
    let set = settings(server).into_iter();
    let set = set.map(|(name, value)| {
        format!(" SELECT pg_catalog.set_config('{name}', '{}', true);", value.replace('\'', "''"))
    });
    set.collect()
}

/// Asks what became of a transaction.
pub(super) fn status_of(number: &str) -> String {
    // It is the server's own: digits.
    let number: String = number.chars().filter(char::is_ascii_digit).collect();
    format!("SELECT pg_xact_status('{number}'::xid8)")
}

pub(super) fn was_committed(told: &[SimpleQueryMessage]) -> bool {
    told.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("committed"),
        _ => false,
    })
}

fn kinds(params: Params<'_>) -> Vec<Type> {
    params.iter().map(|param| param.kind()).collect()
}

fn values(params: Params<'_>) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|param| *param as &(dyn ToSql + Sync)).collect()
}

fn with_kinds(params: Params<'_>) -> Vec<(&(dyn ToSql + Sync), Type)> {
    values(params).into_iter().zip(kinds(params)).collect()
}

/// Waits for futures that were made together, so that what they send goes out together.
pub(super) async fn together<T>(
    futures: impl IntoIterator<Item = impl Future<Output = Result<T, Undone>>>,
) -> Result<Vec<T>, Undone> {
    try_join_all(futures).await
}
