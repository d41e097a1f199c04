//! Why the rows of a view did not get where they should.

use crate::views::NotEvaluated;
use crate::warehouse::failure::StoreFailed;

/// Why rows did not get where they should.
#[derive(Debug, thiserror::Error)]
pub enum RowsFailed {
    #[error(transparent)]
    Store(#[from] StoreFailed),
    #[error(transparent)]
    View(#[from] NotEvaluated),
    #[error("writing rows: {0}")]
    Io(#[from] std::io::Error),
    #[error("writing rows: {0}")]
    Csv(#[from] csv::Error),
}

impl From<rusqlite::Error> for RowsFailed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}
