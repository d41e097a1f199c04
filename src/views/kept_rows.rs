//! The rows that some sources give of one resource, kept until they are stored.
//!
//! Absent on purpose: which resource. Whoever keeps them knows.

use std::ops::ControlFlow;

use super::{Cell, Evaluation, NotEvaluated, RowSource, Tape, TapeMemory};

/// Of a longer resource it is found out first whether its rows are to be kept.
const LARGE_BYTES: usize = 4 * 1024 * 1024;

/// Rows of several sources, cell by cell, and all their text in one piece.
#[derive(Debug, Default)]
pub struct KeptRows {
    cells: Vec<KeptCell>,
    text: String,
    /// Behind the cells of each source.
    ends: Vec<usize>,
    /// Sources that gave no rows of this resource, and why.
    pub failed: Vec<NotEvaluated>,
}

#[derive(Clone, Copy, Debug)]
enum KeptCell {
    Null,
    Integer(i64),
    Boolean(bool),
    /// The number, and where its digits are.
    Real(f64, usize, usize),
    Text(usize, usize),
}

impl KeptRows {
    /// Works out the rows of a resource's JSON. What is no JSON gives no rows.
    pub fn of<'v>(
        sources: impl Iterator<Item = &'v RowSource>,
        resource: &str,
        evaluation: Evaluation,
        memory: &mut TapeMemory,
    ) -> Self {
        let mut kept = Self::default();
        let Ok(tape) = Tape::read(resource, memory) else { return kept };
        for source in sources {
            let (cells, text) = (kept.cells.len(), kept.text.len());
            let rows = |take: &mut dyn FnMut(&[Cell<'_>])| {
                source.rows(&tape, evaluation, &mut |cells| {
                    take(cells);
                    ControlFlow::Continue(())
                })
            };
            // Rows that are not kept in the end would take twice the memory of a large resource.
            let tried = if resource.len() < LARGE_BYTES { Ok(()) } else { rows(&mut |_| ()) };
            let evaluated =
                tried.and_then(|()| rows(&mut |cells| cells.iter().for_each(|cell| kept.push(cell))));
            if let Err(failed) = evaluated {
                kept.cells.truncate(cells);
                kept.text.truncate(text);
                kept.failed.push(failed);
            }
            kept.ends.push(kept.cells.len());
        }
        kept
    }

    fn push(&mut self, cell: &Cell<'_>) {
        let start = self.text.len();
        let mut keep = |text: &str| {
            self.text.push_str(text);
            start + text.len()
        };
        self.cells.push(match cell {
            Cell::Null => KeptCell::Null,
            Cell::Integer(number) => KeptCell::Integer(*number),
            Cell::Boolean(value) => KeptCell::Boolean(*value),
            Cell::Real(number, digits) => KeptCell::Real(*number, start, keep(digits)),
            Cell::Text(text) => KeptCell::Text(start, keep(text)),
        });
    }

    /// Returns the rows of one of the sources, by its place among them.
    pub fn rows(
        &self,
        source: usize,
        columns: usize,
    ) -> impl Iterator<Item = impl Iterator<Item = Cell<'_>>> {
        let start = source.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(source).copied().unwrap_or(start);
        self.cells[start..end].chunks(columns.max(1)).map(|row| row.iter().map(|cell| self.cell(*cell)))
    }

    fn cell(&self, cell: KeptCell) -> Cell<'_> {
        match cell {
            KeptCell::Null => Cell::Null,
            KeptCell::Integer(number) => Cell::Integer(number),
            KeptCell::Boolean(value) => Cell::Boolean(value),
            KeptCell::Real(number, start, end) => Cell::Real(number, self.text[start..end].into()),
            KeptCell::Text(start, end) => Cell::Text(self.text[start..end].into()),
        }
    }
}
