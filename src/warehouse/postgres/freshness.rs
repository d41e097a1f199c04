//! How many live rows each patient has, as the view `freshness` tells them.

use super::failure::Undone;
use super::session::Session;

/// Counts, in the transaction that changes the rows, those that came to life, less those that were marked or removed.
pub(super) async fn count(session: &Session, person: &str, change: i64) -> Result<(), Undone> {
    if change != 0 {
        let statement = "INSERT INTO live_resources AS l (person_id, resources) VALUES ($1, $2)
             ON CONFLICT (person_id) DO UPDATE SET resources = l.resources + excluded.resources";
        session.execute(statement, &[&person, &change]).await?;
    }
    Ok(())
}
