//! The days on which something is dated: of them a person's first and last are found.

use crate::views::{Cell, Column};

/// The tables and columns whose days are a person's first and last.
pub(super) const DAYS: [(&str, &str); 13] = [
    ("allergies", "recorded_date"),
    ("conditions", "recorded_date"),
    ("diagnostic_reports", "effective_date"),
    ("documents", "created_date"),
    ("encounters", "start_date"),
    ("encounters", "end_date"),
    ("immunizations", "occurrence_date"),
    ("medication_administrations", "effective_date"),
    ("medication_dispenses", "handed_over_date"),
    ("medication_requests", "authored_date"),
    ("medication_statements", "effective_date"),
    ("observations", "effective_date"),
    ("procedures", "performed_date"),
];

/// The first and the last day on which something is dated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Option<String>,
    pub(super) last: Option<String>,
}

impl Span {
    /// Makes room for one more day.
    pub(super) fn take(&mut self, day: &str) {
        if self.first.as_deref().is_none_or(|first| day < first) {
            self.first = Some(day.to_owned());
        }
        if self.last.as_deref().is_none_or(|last| last < day) {
            self.last = Some(day.to_owned());
        }
    }

    pub(super) fn join(&mut self, other: &Self) {
        other.first.iter().chain(&other.last).for_each(|day| self.take(day));
    }
}

/// The columns of a table that have a person's days, by their places.
pub(super) fn days_of(table: &str, columns: &[Column]) -> Vec<usize> {
    let is_day = |name: &str| DAYS.contains(&(table, name));
    columns.iter().enumerate().filter(|(_, column)| is_day(&column.name)).map(|(at, _)| at).collect()
}

/// Takes the days of one row.
pub(super) fn take_days<'c>(days: &[usize], cells: impl Iterator<Item = Cell<'c>>, span: &mut Span) {
    for (_, cell) in cells.enumerate().filter(|(at, _)| days.contains(at)) {
        if let Cell::Text(day) = cell {
            span.take(&day);
        }
    }
}
