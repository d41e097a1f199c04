//! Marks what a complete full pull no longer held, in the transaction that ends it.

use std::collections::HashSet;

use super::failure::Undone;
use super::history;
use super::history::Content;
use super::removed;
use super::removed::RemovedRow;
use super::session::Session;
use super::tables::{RowsOf, fill_in, with_rows_of};
use crate::plan::Timestamp;
use crate::plan::due::guard_expired;
use crate::plan::identity::{Identity, KeyHash};
use crate::plan::resource_type::ResourceType;
use crate::plan::sweep::{SweepFacts, SweepVerdict, judge_sweep};
use crate::plan::unseen::{LiveRow, SortedRows, Unseen, UnseenOf};
use crate::warehouse::changes::{Changes, History};
use crate::warehouse::page::SweepRequest;
use crate::warehouse::pull::PullHead;

pub(super) enum Swept {
    Marked { deleted: u64 },
    WalkAgain,
    Guarded { unseen: u64 },
}

pub(super) async fn run(
    session: &Session,
    head: &PullHead,
    request: &SweepRequest,
    quarantined: u64,
    now: Timestamp,
    changes: &mut Changes<'_>,
) -> Result<Swept, Undone> {
    let stored = with_rows_of(session, head.person.as_str()).await?;
    let sweep = Sweep { session, head, request, now };
    if sweep.holds_nothing_else(&stored, quarantined) {
        return sweep.settle(&[], &[], changes).await;
    }
    let judged = sweep.judge(stored).await?;
    match judged.verdict {
        SweepVerdict::WalkAgain => Ok(Swept::WalkAgain),
        SweepVerdict::Guard => {
            sweep.set_guard(Some(judged.guarded_since.unwrap_or(now))).await?;
            Ok(Swept::Guarded { unseen: judged.facts.unseen })
        }
        SweepVerdict::Mark => {
            let Unseen { tables, tables_with_twins, .. } = judged.unseen;
            sweep.settle(&tables, &tables_with_twins, changes).await
        }
    }
}

/// Returns what a sweep would do, and how many entries it did not see. Only reads.
pub(super) async fn judge(
    session: &Session,
    head: &PullHead,
    request: &SweepRequest,
    now: Timestamp,
) -> Result<(SweepVerdict, u64), Undone> {
    let stored = with_rows_of(session, head.person.as_str()).await?;
    let judged = Sweep { session, head, request, now }.judge(stored).await?;
    Ok((judged.verdict, judged.facts.unseen))
}

/// What a sweep would do, and on which rows.
struct Judged {
    verdict: SweepVerdict,
    facts: SweepFacts,
    /// By their keys.
    unseen: Unseen<String>,
    guarded_since: Option<Timestamp>,
}

struct Sweep<'s> {
    session: &'s Session,
    head: &'s PullHead,
    request: &'s SweepRequest,
    now: Timestamp,
}

/// A row as a sweep looks at it.
struct Looked {
    key: String,
    id: Option<String>,
    is_live: bool,
    is_superseded: bool,
}

impl Sweep<'_> {
    fn person(&self) -> &str {
        self.head.person.as_str()
    }

    /// Returns whether the rows of the patient are those that the walk has brought, and no others. They are
    /// counted and not read. `quarantined` entries of the last batch are not among them.
    fn holds_nothing_else(&self, stored: &[RowsOf], quarantined: u64) -> bool {
        let rows: u64 = stored.iter().map(|table| table.rows).sum();
        self.request.arrived.is_some_and(|arrived| rows == arrived.saturating_sub(quarantined))
    }

    async fn settle(
        &self,
        unseen: &[UnseenOf<String>],
        tables_with_twins: &[&str],
        changes: &mut Changes<'_>,
    ) -> Result<Swept, Undone> {
        self.set_guard(None).await?;
        self.forget_quarantined().await?;
        let swept = self.mark(unseen, changes).await?;
        self.note_twins(tables_with_twins).await?;
        Ok(swept)
    }

    async fn set_guard(&self, since: Option<Timestamp>) -> Result<(), Undone> {
        let statement = "UPDATE checkpoint SET sweep_guarded_at = $2
                          WHERE person_id = $1 AND sweep_guarded_at IS DISTINCT FROM $2";
        self.session.execute(statement, &[&self.person(), &since]).await?;
        Ok(())
    }

    async fn judge(&self, stored: Vec<RowsOf>) -> Result<Judged, Undone> {
        let unseen = self.find_unseen(stored).await?;
        let statement = "SELECT sweep_guarded_at FROM checkpoint WHERE person_id = $1";
        let guarded = self.session.row_or_none(statement, &[&self.person()]).await?;
        let guarded_since: Option<Timestamp> = guarded.map(|row| row.try_get(0)).transpose()?.flatten();
        let guard_expired = guarded_since.is_some_and(|since| guard_expired(since, self.now));
        let facts = unseen.facts(self.request.walk, guard_expired);
        Ok(Judged { verdict: judge_sweep(facts), facts, unseen, guarded_since })
    }

    async fn find_unseen(&self, stored: Vec<RowsOf>) -> Result<Unseen<String>, Undone> {
        let mut found = Unseen::default();
        let (asked, others): (Vec<_>, Vec<_>) =
            stored.into_iter().partition(|table| self.head.types.asks_for(table.known.name));
        let mut looked = Vec::new();
        let mut with_unseen = false;
        for RowsOf { known, .. } in &asked {
            let rows = self.look(&known.table).await?;
            with_unseen |= rows.iter().any(|row| !self.was_seen(&known.table, row));
            found.tables_with_twins.extend(has_twins(&rows).then_some(known.table.as_str()));
            looked.push((*known, rows));
        }
        if !with_unseen {
            return Ok(found);
        }
        found.live = others.iter().map(|table| table.live).sum();
        let quarantined = self.quarantined_keys().await?;
        for (known, rows) in looked {
            let twins = self.twins(&known.table).await?;
            let mut sorted = SortedRows::new(&known.table, &self.request.seen, twins, &quarantined);
            for Looked { key, id, is_superseded, .. } in rows.into_iter().filter(|row| row.is_live) {
                sorted.add(LiveRow { row: key.clone(), key, id, is_superseded });
            }
            found.add(sorted);
        }
        Ok(found)
    }

    async fn look(&self, table: &str) -> Result<Vec<Looked>, Undone> {
        let statement = format!(
            "SELECT key, id, deleted_at IS NULL, superseded_at IS NOT NULL FROM \"{table}\" WHERE person_id = $1"
        );
        let rows = self.session.rows(&statement, &[&self.person()]).await?;
        let looked = rows.iter().map(|row| {
            let (key, id) = (row.try_get(0)?, row.try_get(1)?);
            Ok(Looked { key, id, is_live: row.try_get(2)?, is_superseded: row.try_get(3)? })
        });
        looked.collect()
    }

    fn was_seen(&self, table: &str, row: &Looked) -> bool {
        Identity::was_seen(&row.key, table, row.id.as_deref(), &self.request.seen)
    }

    async fn quarantined_keys(&self) -> Result<HashSet<String>, Undone> {
        let statement = "SELECT key FROM quarantine WHERE person_id = $1";
        let rows = self.session.rows(statement, &[&self.person()]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    async fn twins(&self, table: &str) -> Result<HashSet<String>, Undone> {
        let statement = "SELECT key FROM twin WHERE person_id = $1 AND type = $2";
        let rows = self.session.rows(statement, &[&self.person(), &table]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Notes which things of one type and id the server has side by side.
    async fn note_twins(&self, tables: &[&str]) -> Result<(), Undone> {
        let person = self.person();
        let known =
            self.session.rows("SELECT DISTINCT type FROM twin WHERE person_id = $1", &[&person]).await?;
        let known = known.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        let asked = |table: &&String| {
            ResourceType::by_table(table).is_some_and(|known| self.head.types.asks_for(known.name))
        };
        let asked: Vec<&str> = known.iter().filter(asked).map(String::as_str).collect();
        if !asked.is_empty() {
            let statement = "DELETE FROM twin WHERE person_id = $1 AND type = ANY($2)";
            self.session.execute(statement, &[&person, &asked]).await?;
        }
        for table in tables {
            let statement = fill_in(include_str!("../../../schema/postgres/note_twins.sql"), table);
            self.session.execute(&statement, &[&person, table]).await?;
        }
        Ok(())
    }

    async fn mark(&self, unseen: &[UnseenOf<String>], changes: &mut Changes<'_>) -> Result<Swept, Undone> {
        let mut deleted = 0;
        for UnseenOf { table, renamed, vanished } in unseen {
            if !vanished.is_empty() {
                let statement =
                    format!("UPDATE \"{table}\" SET deleted_at = $3 WHERE person_id = $1 AND key = ANY($2)");
                deleted += self.session.execute(&statement, &[&self.person(), vanished, &self.now]).await?;
                for key in vanished {
                    changes.gone(table, key.clone());
                }
            }
            for row in self.remove_renamed(table, renamed, changes.history).await? {
                removed::note(self.session, table, &self.head.person, &row, self.now).await?;
                changes.gone(table, row.key);
            }
        }
        Ok(Swept::Marked { deleted })
    }

    /// Removes rows whose entries live on under another key. What no other row says is a former version.
    async fn remove_renamed(
        &self,
        table: &str,
        renamed: &Vec<String>,
        history: History,
    ) -> Result<Vec<RemovedRow>, Undone> {
        if renamed.is_empty() {
            return Ok(Vec::new());
        }
        let (session, person) = (self.session, self.person());
        let mut contents = history::contents(history, session, table, person).await?;
        let find =
            format!("SELECT key, id, content_hash FROM \"{table}\" WHERE person_id = $1 AND key = ANY($2)");
        let mut removed = Vec::new();
        let mut only_here = Vec::new();
        for row in session.rows(&find, &[&person, renamed]).await? {
            let row_names = RemovedRow { key: row.try_get(0)?, id: row.try_get(1)? };
            let content_hash: Vec<u8> = row.try_get(2)?;
            let content = row_names.id.clone().map(|id| Content { id, content_hash });
            if let Some(rows) = content.and_then(|content| contents.get_mut(&content)) {
                *rows -= 1;
                only_here.extend((*rows == 0).then(|| row_names.key.clone()));
            }
            removed.push(row_names);
        }
        let only_here = only_here.iter().map(String::as_str).collect();
        history::keep(history, session, table, person, only_here, self.now).await?;
        let remove = format!("DELETE FROM \"{table}\" WHERE person_id = $1 AND key = ANY($2)");
        session.execute(&remove, &[&person, renamed]).await?;
        Ok(removed)
    }

    /// A quarantined entry that the whole record no longer holds has been mended or removed.
    async fn forget_quarantined(&self) -> Result<(), Undone> {
        if !self.head.types.is_everything() {
            return Ok(());
        }
        let statement = "SELECT key, identity FROM quarantine WHERE person_id = $1";
        let mut gone: Vec<String> = Vec::new();
        for row in self.session.rows(statement, &[&self.person()]).await? {
            let identity: Option<i64> = row.try_get(1)?;
            let is_there = |identity: i64| {
                self.request
                    .seen
                    .iter()
                    .any(|walk: &HashSet<KeyHash>| walk.contains(&identity.cast_unsigned()))
            };
            if !identity.is_some_and(is_there) {
                gone.push(row.try_get(0)?);
            }
        }
        if !gone.is_empty() {
            let statement = "DELETE FROM quarantine WHERE person_id = $1 AND key = ANY($2)";
            self.session.execute(statement, &[&self.person(), &gone]).await?;
        }
        Ok(())
    }
}

fn has_twins(rows: &[Looked]) -> bool {
    let mut ids = HashSet::new();
    rows.iter().filter(|row| row.is_live).filter_map(|row| row.id.as_deref()).any(|id| !ids.insert(id))
}
