//! The analysts' tables: kept up with each page.

use super::changes::Changes;
use super::failure::Undone;
use super::session::Session;
use crate::plan::{PersonId, Timestamp};
use crate::views::AnalystTable;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct AnalystTables {}

impl AnalystTables {
    pub(super) fn new(_tables: &[AnalystTable]) -> Self {
        Self {}
    }

    /// Replaces the rows of the resources that changed. Runs inside the page's transaction.
    pub(super) async fn apply_changes(
        &self,
        session: &Session,
        person: &PersonId,
        changes: &Changes<'_>,
        _now: Timestamp,
    ) -> Result<(), Undone> {
        if changes.live != 0 {
            let statement = "INSERT INTO live_resources AS l (person_id, resources) VALUES ($1, $2)
                 ON CONFLICT (person_id) DO UPDATE SET resources = l.resources + excluded.resources";
            session.execute(statement, &[&person.as_str(), &changes.live]).await?;
        }
        Ok(())
    }
}
