//! The rows of a statement one after the other, however many there are.
//!
//! Promise: memory holds a few of them. Absent on purpose: another statement on the same connection meanwhile, which
//! would wait for the last row.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use futures_util::TryStreamExt as _;
use tokio_postgres::Row;

use super::failure::Undone;
use super::runtime;
use super::session::{Params, Session};
use crate::warehouse::failure::StoreFailed;

/// Rows are handed on in pieces of so many, or of so many bytes.
const PIECE_ROWS: usize = 256;
const PIECE_BYTES: usize = 1 << 20;
/// Pieces that wait to be read.
const WAITING: usize = 2;

type Piece = Result<Vec<Row>, Undone>;

/// Hands every row of a statement on, in this thread.
pub(super) fn each_row<E: From<StoreFailed>>(
    session: &Session,
    statement: &str,
    params: Params<'_>,
    mut each: impl FnMut(&Row) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |error: std::io::Error| E::from(StoreFailed::Engine(error.to_string()));
    let handle = runtime::handle().map_err(failed)?;
    thread::scope(|scope| {
        let (sender, pieces): (SyncSender<Piece>, Receiver<Piece>) = sync_channel(WAITING);
        let reading = thread::Builder::new().name("database".to_owned());
        let read = move || handle.block_on(read(session, statement, params, &sender));
        reading.spawn_scoped(scope, read).map_err(failed)?;
        for piece in &pieces {
            for row in &piece.map_err(|undone| E::from(undone.into_failure()))? {
                each(row)?;
            }
        }
        // Whoever reads learns of an early end from the channel.
        drop(pieces);
        Ok(())
    })
}

async fn read(session: &Session, statement: &str, params: Params<'_>, pieces: &SyncSender<Piece>) {
    if let Err(undone) = read_pieces(session, statement, params, pieces).await {
        // Nobody listens any more where that fails.
        let _ = pieces.send(Err(undone));
    }
}

async fn read_pieces(
    session: &Session,
    statement: &str,
    params: Params<'_>,
    pieces: &SyncSender<Piece>,
) -> Result<(), Undone> {
    let rows = session.stream(statement, params).await?;
    let mut rows = std::pin::pin!(rows);
    let (mut piece, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        bytes += row.raw_size_bytes();
        piece.push(row);
        if piece.len() >= PIECE_ROWS || bytes >= PIECE_BYTES {
            if pieces.send(Ok(std::mem::take(&mut piece))).is_err() {
                return Ok(());
            }
            bytes = 0;
        }
    }
    let _ = pieces.send(Ok(piece));
    Ok(())
}
