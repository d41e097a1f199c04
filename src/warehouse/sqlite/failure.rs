//! SQLite's errors in the door's words.

use rusqlite::{Error, ErrorCode, ffi};

use crate::warehouse::failure::StoreFailed;

impl From<Error> for StoreFailed {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let Some(code) = error.sqlite_error_code() else {
            // A value that SQLite has no type for, or a stored one that is of another type.
            return Self::Data(text);
        };
        // A full disk has no room for the WAL's index, which is no write to SQLite.
        if error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE) {
            return Self::DiskFull;
        }
        match code {
            ErrorCode::DiskFull => Self::DiskFull,
            ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => Self::ReadOnly,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damaged(text),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy(text),
            ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch => Self::Data(text),
            _ => Self::Engine(text),
        }
    }
}

/// Why a piece of work is not in the file.
#[derive(Clone, Debug)]
pub(super) enum Undone {
    Failed(StoreFailed),
    /// A move of a pull hit no row: another pull has taken over.
    Superseded,
}

impl<E: Into<StoreFailed>> From<E> for Undone {
    fn from(failed: E) -> Self {
        Self::Failed(failed.into())
    }
}
