//! The words for what moves from a file to a server.

/// A cell on its way from one engine to the other.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MovedCell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Some rows of a table in their order, cell by cell.
#[derive(Debug)]
pub(super) struct MovedRows {
    pub(super) rows: Vec<Vec<MovedCell>>,
    /// How far the table was read; `None` to its end.
    pub(super) read_to: Option<i64>,
}
