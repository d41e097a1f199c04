//! What gives rows of a resource: a view, or the look for its codings.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::codings;
use super::own_columns::CODINGS;
use super::{Cell, Column, Dropped, Evaluation, NotEvaluated, Tape, View};

/// What rows of a resource are made by.
#[derive(Clone, Debug)]
pub enum RowSource {
    /// A view, of resources of its type.
    View(Arc<View>),
    /// Its codings, of resources of any type.
    Codings,
}

impl RowSource {
    /// Returns the columns of a row.
    pub fn columns(&self) -> &[Column] {
        match self {
            Self::View(view) => &view.columns,
            Self::Codings => &CODINGS,
        }
    }

    /// Returns the type of the resources it looks at; `None` for any.
    pub fn resource_type(&self) -> Option<&'static str> {
        match self {
            Self::View(view) => Some(view.resource_type),
            Self::Codings => None,
        }
    }

    /// Hands on the rows of the resource on the tape.
    pub(super) fn rows<'d>(
        &'d self,
        tape: &'d Tape<'d>,
        evaluation: Evaluation,
        take: &mut dyn FnMut(&[Cell<'_>]) -> ControlFlow<()>,
    ) -> Result<(), NotEvaluated> {
        match self {
            Self::View(view) => {
                view.rows(tape, evaluation, &mut Dropped::default(), &mut |cells| take(cells))
            }
            Self::Codings => codings::rows(tape, take),
        }
    }
}
