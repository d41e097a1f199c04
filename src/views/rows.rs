//! The rows a view gives of one resource.
//!
//! Promise: rows are handed on one by one. Only a strict view fails over what a resource holds; any
//! fails over a resource that would give it more rows or cost it more steps than the limits.

use std::ops::ControlFlow;

use super::cell;
use super::cell::Cell;
use super::evaluate::{Evaluator, Focus};
use super::tape::{Json, Tape};
use super::view::{ColumnProgram, EachProgram, Over, SelectProgram, View};
use crate::plan::Timestamp;

/// Rows of one resource.
pub(super) const ROWS_MAX: usize = 100_000;

/// What is done where one value is wanted and a resource has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Several {
    /// The first is kept, and it is counted.
    KeepFirst,
    /// It is an error, as the standard says.
    Refuse,
}

/// Why a resource gives no rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{resource}: {why}", self.place())]
pub struct NotEvaluated {
    pub view: Option<String>,
    pub column: Option<String>,
    pub expression: Option<String>,
    /// `Type/id`.
    pub resource: String,
    pub why: &'static str,
}

impl NotEvaluated {
    /// Says that something gives no rows of the resource on the tape.
    pub(super) fn of(name: &str, resource_type: &str, tape: &Tape<'_>, why: &'static str) -> Self {
        let id = tape.member(tape.root(), "id").filter(|id| tape.json(*id) == Json::Text);
        let id = id.map_or("(without an id)".into(), |id| tape.text(id));
        let resource = format!("{resource_type}/{id}");
        Self { view: Some(name.to_owned()), column: None, expression: None, resource, why }
    }

    fn place(&self) -> String {
        let named = [("view", &self.view), ("column", &self.column), ("in", &self.expression)];
        named.iter().filter_map(|(what, name)| Some(format!("{what} `{}`, ", name.as_ref()?))).collect()
    }
}

/// How often, by column, there was more than the one value that was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped(Vec<u64>);

impl Dropped {
    fn count(&mut self, column: usize) {
        if self.0.len() <= column {
            self.0.resize(column + 1, 0);
        }
        self.0[column] += 1;
    }

    /// Adds what was counted elsewhere, of the same view.
    pub fn add(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(all, more)| *all += more);
    }

    /// Returns the columns with such rows, and how many.
    pub fn by_column<'v>(&self, view: &'v View) -> impl Iterator<Item = (&'v str, u64)> {
        let counts = view.columns.iter().zip(&self.0).filter(|(_, count)| **count > 0);
        counts.map(|(column, count)| (column.name.as_str(), *count))
    }
}

/// How views are evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation {
    /// What `now()` is.
    pub now: Timestamp,
    pub several: Several,
}

impl View {
    /// Hands on the rows of the resource on the tape, until `take` breaks off.
    pub fn rows<'d>(
        &'d self,
        tape: &'d Tape<'d>,
        evaluation: Evaluation,
        dropped: &mut Dropped,
        take: &mut dyn FnMut(&[Cell<'d>]) -> ControlFlow<()>,
    ) -> Result<(), NotEvaluated> {
        if tape.json(tape.root()) != Json::Object {
            return Ok(());
        }
        let is_strict = evaluation.several == Several::Refuse;
        let evaluator = Evaluator::new(tape, self.resource_type, evaluation.now, is_strict);
        let focus = Focus { this: Some(evaluator.root()), row_index: 0 };
        for filter in &self.filters {
            let holds = evaluator.truth(&filter.node, &focus) == Some(true);
            if evaluator.take_met_several() {
                return Err(self.failed(tape, None, Some(&filter.path), SEVERAL));
            }
            if evaluator.is_exhausted() {
                return Err(self.failed(tape, None, Some(&filter.path), TOO_MANY_STEPS));
            }
            if !holds {
                return Ok(());
            }
        }
        let cells = Vec::with_capacity(self.columns.len());
        let mut maker =
            Maker { evaluator: &evaluator, is_strict, cells, rows: 0, failed: None, dropped, take };
        // A break is a failure, or what was asked for.
        let _ = maker.all(&self.selects, &focus, &mut |maker| maker.hand_on());
        if let Some(Failed { column, path, why }) = maker.failed.take() {
            let column = column.and_then(|at| self.columns.get(at)).map(|column| column.name.as_str());
            return Err(self.failed(tape, column, path, why));
        }
        if evaluator.is_exhausted() {
            return Err(self.failed(tape, None, None, TOO_MANY_STEPS));
        }
        Ok(())
    }

    fn failed(
        &self,
        tape: &Tape<'_>,
        column: Option<&str>,
        path: Option<&str>,
        why: &'static str,
    ) -> NotEvaluated {
        NotEvaluated {
            view: self.name.clone(),
            column: column.map(str::to_owned),
            expression: path.map(str::to_owned),
            ..NotEvaluated::of("", self.resource_type, tape, why)
        }
    }
}

const SEVERAL: &str =
    "several values where one is expected: take the first(), or make the column a collection";
pub(super) const TOO_MANY_ROWS: &str = "it would give more than 100,000 rows: iterate over less";
const TOO_MANY_STEPS: &str = "it takes more than 50,000,000 steps: ask for less";

/// What went wrong, and where.
struct Failed<'d> {
    column: Option<usize>,
    path: Option<&'d str>,
    why: &'static str,
}

/// Puts the cells of a row together, select by select.
struct Maker<'e, 'd, 't> {
    evaluator: &'e Evaluator<'d>,
    is_strict: bool,
    cells: Vec<Cell<'d>>,
    rows: usize,
    failed: Option<Failed<'d>>,
    dropped: &'t mut Dropped,
    take: &'t mut dyn FnMut(&[Cell<'d>]) -> ControlFlow<()>,
}

/// What is done once the cells of a select are there.
type Then<'a, 'e, 'd, 't> = &'a mut dyn FnMut(&mut Maker<'e, 'd, 't>) -> ControlFlow<()>;

impl<'e, 'd, 't> Maker<'e, 'd, 't> {
    fn hand_on(&mut self) -> ControlFlow<()> {
        self.rows += 1;
        if ROWS_MAX < self.rows {
            return self.fail(None, None, TOO_MANY_ROWS);
        }
        (self.take)(&self.cells)
    }

    fn fail(&mut self, column: Option<usize>, path: Option<&'d str>, why: &'static str) -> ControlFlow<()> {
        self.failed = Some(Failed { column, path, why });
        ControlFlow::Break(())
    }

    /// Each row of the first select with each of the others.
    fn all(
        &mut self,
        selects: &'d [SelectProgram],
        focus: &Focus<'d>,
        then: Then<'_, 'e, 'd, 't>,
    ) -> ControlFlow<()> {
        match selects {
            [] => then(self),
            [last] => self.select(last, focus, then),
            [first, rest @ ..] => self.select(first, focus, &mut |maker| maker.all(rest, focus, then)),
        }
    }

    fn select(
        &mut self,
        select: &'d SelectProgram,
        focus: &Focus<'d>,
        then: Then<'_, 'e, 'd, 't>,
    ) -> ControlFlow<()> {
        match &select.over {
            Over::Once => self.on(select, focus, then),
            Over::Each(each) => self.each(select, each, focus, then).map_continue(|_| ()),
            Over::EachOrNull(each) => {
                if self.each(select, each, focus, then)? == 0 {
                    return self.on(select, &Focus { this: None, row_index: 0 }, then);
                }
                ControlFlow::Continue(())
            }
            Over::Repeat(nodes) => {
                let evaluator = self.evaluator;
                let mut row_index = 0;
                evaluator.descend(
                    |sink| nodes.iter().try_for_each(|node| evaluator.each(node, focus, sink)),
                    |item, sink| {
                        let inner = Focus { this: Some(item.clone()), row_index: 0 };
                        nodes.iter().try_for_each(|node| evaluator.each(node, &inner, sink))
                    },
                    &mut |item| {
                        let inner = Focus { this: Some(item), row_index };
                        row_index += 1;
                        self.on(select, &inner, then)
                    },
                )
            }
        }
    }

    /// The rows of each element; gives how many elements there were.
    fn each(
        &mut self,
        select: &'d SelectProgram,
        each: &'d EachProgram,
        focus: &Focus<'d>,
        then: Then<'_, 'e, 'd, 't>,
    ) -> ControlFlow<(), usize> {
        let evaluator = self.evaluator;
        let mut count = 0;
        evaluator.each(&each.node, focus, &mut |item| {
            let row_index = if each.is_plain_array { evaluator.position() } else { count };
            count += 1;
            self.on(select, &Focus { this: Some(item), row_index }, then)
        })?;
        ControlFlow::Continue(count)
    }

    fn on(
        &mut self,
        select: &'d SelectProgram,
        focus: &Focus<'d>,
        then: Then<'_, 'e, 'd, 't>,
    ) -> ControlFlow<()> {
        let before = self.cells.len();
        for column in &select.columns {
            let cell = self.cell(column, focus)?;
            self.cells.push(cell);
        }
        let flow = if select.nested.is_empty() && select.union.is_empty() {
            then(self)
        } else {
            self.all(&select.nested, focus, &mut |maker| maker.union(&select.union, focus, then))
        };
        self.cells.truncate(before);
        flow
    }

    fn union(
        &mut self,
        members: &'d [SelectProgram],
        focus: &Focus<'d>,
        then: Then<'_, 'e, 'd, 't>,
    ) -> ControlFlow<()> {
        if members.is_empty() {
            return then(self);
        }
        members.iter().try_for_each(|member| self.select(member, focus, then))
    }

    fn cell(&mut self, column: &'d ColumnProgram, focus: &Focus<'d>) -> ControlFlow<(), Cell<'d>> {
        let at = Some(self.cells.len());
        if column.is_collection {
            return ControlFlow::Continue(Cell::Text(self.json_array(column, focus).into()));
        }
        let (item, has_more) = if column.is_many {
            self.evaluator.first_and_more(&column.node, focus)
        } else {
            (self.evaluator.first(&column.node, focus), false)
        };
        if self.is_strict && (has_more || self.evaluator.take_met_several()) {
            self.fail(at, Some(&column.path), SEVERAL)?;
        }
        if self.evaluator.is_exhausted() {
            self.fail(at, Some(&column.path), TOO_MANY_STEPS)?;
        }
        if has_more {
            self.dropped.count(self.cells.len());
        }
        let fitted = |item| cell::fitted(&item, column.declared, self.evaluator.tape);
        ControlFlow::Continue(item.map_or(Cell::Null, fitted))
    }

    fn json_array(&self, column: &'d ColumnProgram, focus: &Focus<'d>) -> String {
        let mut array = "[".to_owned();
        let _ = self.evaluator.each(&column.node, focus, &mut |item| {
            if array.len() > 1 {
                array.push(',');
            }
            item.push_json(self.evaluator.tape, &mut array);
            ControlFlow::Continue(())
        });
        array.push(']');
        array
    }
}
