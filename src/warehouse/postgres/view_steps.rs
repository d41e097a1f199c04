//! What follows a page in the analysts' tables, statement by statement: all together, or table by table where the
//! server refuses some of it.

use std::collections::BTreeMap;

use super::failure::Undone;
use super::session::{Session, together};
use super::values::Param;
use crate::warehouse::failure::StoreFailed;

/// A statement that follows a page, and the table that it is about.
pub(super) struct Step<'r> {
    pub(super) table: &'r str,
    pub(super) phase: Phase,
    pub(super) text: String,
    pub(super) params: Vec<Box<dyn Param + 'r>>,
}

/// What comes before what. The statements of one phase are sent together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Forget,
    Insert,
    Medicines,
    Persons,
    GonePersons,
}

impl Step<'_> {
    async fn run(&self, session: &Session) -> Result<(), Undone> {
        let params: Vec<&dyn Param> = self.params.iter().map(|param| &**param as &dyn Param).collect();
        session.execute(&self.text, &params).await.map(drop)
    }
}

/// Carries all steps out, phase by phase.
pub(super) async fn run_all(session: &Session, steps: &[Step<'_>]) -> Result<(), Undone> {
    for phase in [Phase::Forget, Phase::Insert, Phase::Medicines, Phase::Persons, Phase::GonePersons] {
        let of_phase = steps.iter().filter(|step| step.phase == phase);
        together(of_phase.map(|step| step.run(session))).await?;
    }
    Ok(())
}

/// Carries the steps out table by table. One that is refused is told, and marked as not followed.
pub(super) async fn run_each(session: &Session, steps: &[Step<'_>]) -> Result<(), Undone> {
    let mut by_table: BTreeMap<(Phase, &str), Vec<&Step<'_>>> = BTreeMap::new();
    for step in steps {
        // Medicines are filled in from another table, and `persons` is made of all.
        let turn = if step.phase <= Phase::Insert { Phase::Insert } else { step.phase };
        by_table.entry((turn, step.table)).or_default().push(step);
    }
    for ((_, table), mut steps) in by_table {
        steps.sort_by_key(|step| step.phase);
        session.batch("SAVEPOINT one_view").await?;
        let mut followed = Ok(());
        for step in steps {
            followed = step.run(session).await;
            if followed.is_err() {
                break;
            }
        }
        match followed {
            Err(Undone::Failed(StoreFailed::Engine(why) | StoreFailed::Data(why))) => {
                session.batch("ROLLBACK TO SAVEPOINT one_view").await?;
                let statement = "UPDATE analyst_table SET definition = '' WHERE name = $1";
                session.execute(statement, &[&table]).await?;
                tracing::warn!(
                    "the analysts' table {table} could not be kept up ({why}); `views apply` builds it anew"
                );
            }
            followed => followed?,
        }
    }
    Ok(())
}
