//! The resources of a batch on their way into their tables.
//!
//! What is stored under their keys is read first, one look a table, and what each of them does is
//! decided in the order they came; then they are written, one statement a table.

use std::collections::{BTreeMap, HashMap, HashSet};

use tokio_postgres::types::Type;

use super::checkpoint::Standing;
use super::failure::Undone;
use super::session::{Session, together};
use super::tables::{fill_in, resource_tables};
use super::values::Param;
use super::{checkpoint, history};
use crate::plan::duplicate::replaces;
use crate::plan::identity::{Holder, KEY_BYTES_MAX, KeyForm, choose_key};
use crate::plan::row::{NAME_TOO_LONG, Quarantined, Row};
use crate::plan::{PersonId, Timestamp};
use crate::views::KeptRows;
use crate::warehouse::changes::{Change, Changes, History};
use crate::warehouse::page::{Batch, IncomingRow, Tally};

const KNOWN: &str =
    "SELECT key, id, content_hash, deleted_at IS NOT NULL, superseded_at IS NOT NULL, last_updated
       FROM \"{table}\" WHERE person_id = $1 AND key = ANY($2)";

/// Why a resource is not stored that everything else could be done with.
pub(super) const UNREADABLE: &str = "holds characters PostgreSQL cannot read";

/// What is stored under a key.
#[derive(Clone)]
pub(super) struct StoredVersion {
    id: Option<String>,
    content_hash: Vec<u8>,
    is_deleted: bool,
    is_superseded: bool,
    last_updated: Option<String>,
}

impl StoredVersion {
    /// Returns whether the row is this one, and to be seen.
    pub(super) fn is_current(&self, row: &Row) -> bool {
        self.content_hash == row.content_hash && !self.is_deleted && !self.is_superseded
    }

    fn of(row: &Row) -> Self {
        Self {
            id: row.id.clone(),
            content_hash: row.content_hash.to_vec(),
            is_deleted: false,
            is_superseded: false,
            last_updated: row.last_updated.clone(),
        }
    }
}

/// What is stored, by table and key.
pub(super) type Known = HashMap<&'static str, HashMap<String, StoredVersion>>;

/// The resources of one person, as they are decided on.
pub(super) struct Upserts<'c> {
    session: &'c Session,
    person: &'c str,
    now: Timestamp,
    /// How the patient stood before.
    pub(super) before: Standing,
    /// Whether a thing of this patient may be stored with its id behind its name.
    shares_names: bool,
    known: Known,
    /// Rows that have no key to be stored under.
    homeless: Vec<Quarantined>,
}

/// What a table is to be given.
#[derive(Default)]
struct Writes<'b> {
    rows: Vec<&'b Row>,
    /// Those whose former version is another.
    replaced: Vec<&'b str>,
}

impl<'c> Upserts<'c> {
    /// Keeps everyone else from the patient, and reads what is stored under the keys of a batch.
    pub(super) async fn begin(
        session: &'c Session,
        person: &'c PersonId,
        now: Timestamp,
        batch: &Batch,
    ) -> Result<Self, Undone> {
        let person = person.as_str();
        let names = batch.rows.iter().map(|incoming| (incoming.row.table, incoming.row.key.as_str()));
        let (before, known) =
            tokio::join!(biased; checkpoint::lock(session, person), known(session, person, names));
        let before = before?;
        Ok(Self {
            session,
            person,
            now,
            shares_names: before.shares_names,
            before,
            known: known?,
            homeless: Vec::new(),
        })
    }

    /// Decides on rows, and writes them. `gained` has what they give the analysts' tables, as far as that is known. Those that need another key than their name come back in `respelled`.
    pub(super) async fn rows<'b>(
        &mut self,
        rows: &'b [IncomingRow],
        gained: &'b [Option<KeptRows>],
        respelled: &mut Vec<IncomingRow>,
        changes: &mut Changes<'b>,
    ) -> Result<Tally, Undone> {
        if rows.is_empty() {
            return Ok(Tally::default());
        }
        self.look_for_names_with_ids(rows).await?;
        let mut tally = Tally::default();
        let mut writes: BTreeMap<&'static str, Writes<'b>> = BTreeMap::new();
        let gained = gained.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        for (incoming, gained) in rows.iter().zip(gained) {
            let change = Change { row: &incoming.row, gained };
            self.decide(change, incoming.is_repeat, respelled, &mut writes, &mut tally, changes);
        }
        self.write(&writes, changes.history).await?;
        if self.before.has_quarantined {
            let identities: Vec<i64> = rows.iter().map(|it| it.row.identity().hash().cast_signed()).collect();
            let mended = "DELETE FROM quarantine WHERE person_id = $1 AND identity = ANY($2)";
            self.session.execute(mended, &[&self.person, &identities]).await?;
        }
        if self.shares_names && !self.before.shares_names {
            let statement = "UPDATE checkpoint SET shares_names = true WHERE person_id = $1";
            self.session.execute(statement, &[&self.person]).await?;
        }
        Ok(tally)
    }

    /// Reads what is stored under names with ids behind them, where a row may have to have such a key.
    async fn look_for_names_with_ids(&mut self, rows: &[IncomingRow]) -> Result<(), Undone> {
        let needs = |row: &&Row| {
            let at_name = self.holder(row.table, &row.key, row);
            !(at_name == Holder::Itself || at_name == Holder::Nothing && !self.shares_names)
        };
        let keys: Vec<(&'static str, String)> = rows
            .iter()
            .map(|incoming| &incoming.row)
            .filter(needs)
            .map(|row| (row.table, row.identity().key_with_id()))
            .collect();
        if keys.is_empty() {
            return Ok(());
        }
        let keys = keys.iter().map(|(table, key)| (*table, key.as_str()));
        let found = known(self.session, self.person, keys).await?;
        for (table, found) in found {
            self.known.entry(table).or_default().extend(found);
        }
        Ok(())
    }

    fn stored(&self, table: &str, key: &str) -> Option<&StoredVersion> {
        self.known.get(table)?.get(key)
    }

    /// Returns who holds a key, as seen from a thing that might be stored under it.
    fn holder(&self, table: &str, key: &str, row: &Row) -> Holder {
        holder(self.stored(table, key), row)
    }

    fn decide<'b>(
        &mut self,
        change: Change<'b>,
        is_repeat: bool,
        respelled: &mut Vec<IncomingRow>,
        writes: &mut BTreeMap<&'static str, Writes<'b>>,
        tally: &mut Tally,
        changes: &mut Changes<'b>,
    ) {
        let row = change.row;
        if !is_readable(&row.resource) {
            // A new version that cannot be stored: the former one is no longer what the server has.
            self.homeless.push(Quarantined { is_named: true, ..row.quarantined(UNREADABLE) });
            return;
        }
        if !self.may_have_its_name(row, is_repeat, respelled) {
            return;
        }
        let of_table = writes.entry(row.table).or_default();
        match self.known.get(row.table).and_then(|stored| stored.get(&row.key)) {
            None => {
                tally.inserted += 1;
                changes.inserted(change);
            }
            Some(known) if known.is_current(row) => {
                tally.unchanged += 1;
                return;
            }
            Some(known)
                if is_repeat && !replaces(row.last_updated.as_deref(), known.last_updated.as_deref()) =>
            {
                tally.unchanged += 1;
                return;
            }
            Some(known) => {
                if known.content_hash != row.content_hash {
                    of_table.replaced.push(&row.key);
                }
                tally.updated += 1;
                changes.updated(change, known.is_deleted);
            }
        }
        of_table.rows.push(row);
        self.known.entry(row.table).or_default().insert(row.key.clone(), StoredVersion::of(row));
    }

    /// Returns whether a row is stored under its name; else it waits for another key, or has none.
    fn may_have_its_name(&mut self, row: &Row, is_repeat: bool, respelled: &mut Vec<IncomingRow>) -> bool {
        let at_name = self.holder(row.table, &row.key, row);
        if at_name == Holder::Itself || at_name == Holder::Nothing && !self.shares_names {
            return true;
        }
        let key = row.identity().key_with_id();
        match choose_key(at_name, self.holder(row.table, &key, row)) {
            KeyForm::Name => return true,
            KeyForm::NameAndId if key.len() <= KEY_BYTES_MAX => {
                self.shares_names = true;
                respelled.push(IncomingRow { row: Row { key, ..row.clone() }, is_repeat });
            }
            KeyForm::NameAndId => self.homeless.push(row.quarantined(NAME_TOO_LONG)),
            KeyForm::Neither => self.homeless.push(row.quarantined("its key is another resource's")),
        }
        false
    }

    async fn write(
        &self,
        writes: &BTreeMap<&'static str, Writes<'_>>,
        history: History,
    ) -> Result<(), Undone> {
        let tables: Vec<(String, &Writes<'_>)> = writes
            .iter()
            .filter(|(_, writes)| !writes.rows.is_empty())
            .map(|(table, writes)| {
                (fill_in(include_str!("../../../schema/postgres/upsert.sql"), table), writes)
            })
            .collect();
        for (table, writes) in writes {
            history::keep(history, self.session, table, self.person, writes.replaced.clone(), self.now)
                .await?;
        }
        let kinds = || {
            let mut kinds = vec![Type::TEXT, Type::TIMESTAMPTZ];
            kinds.extend([Type::TEXT_ARRAY; 6]);
            kinds.extend([Type::BYTEA_ARRAY, Type::TEXT_ARRAY]);
            kinds
        };
        let prepared: Vec<(&str, Vec<Type>)> =
            tables.iter().map(|(text, _)| (text.as_str(), kinds())).collect();
        self.session.prepare(&prepared).await?;
        let written = tables.iter().map(|(statement, Writes { rows, .. })| async move {
            let column = |of: fn(&Row) -> Option<&str>| rows.iter().map(|row| of(row)).collect::<Vec<_>>();
            let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
            let ids = column(|row| row.id.as_deref());
            let versions = column(|row| row.version_id.as_deref());
            let last_updated = column(|row| row.last_updated.as_deref());
            let sources = column(|row| row.source.as_deref());
            let patients = column(|row| row.patient.as_deref());
            let hashes: Vec<&[u8]> = rows.iter().map(|row| row.content_hash.as_slice()).collect();
            let resources: Vec<&str> = rows.iter().map(|row| row.resource.as_str()).collect();
            let values: [&dyn Param; 10] = [
                &self.person,
                &self.now,
                &keys,
                &ids,
                &versions,
                &last_updated,
                &sources,
                &patients,
                &hashes,
                &resources,
            ];
            self.session.execute(statement, &values).await
        });
        together(written).await?;
        Ok(())
    }

    /// Puts entries into quarantine. What they are new versions of is no longer what the server has.
    pub(super) async fn quarantine(
        &mut self,
        entries: &[Quarantined],
        changes: &mut Changes<'_>,
    ) -> Result<u64, Undone> {
        let homeless = std::mem::take(&mut self.homeless);
        for entry in entries.iter().chain(&homeless) {
            let key = self.quarantine_key(entry).await?;
            let identity = entry.identity().hash().cast_signed();
            let statement = include_str!("../../../schema/postgres/quarantine.sql");
            let bytes = entry.entry.as_slice();
            self.session
                .execute(statement, &[&self.person, &key, &entry.reason, &self.now, &bytes, &identity])
                .await?;
            if entry.is_named {
                self.supersede(entry, changes).await?;
            }
        }
        Ok((entries.len() + homeless.len()) as u64)
    }

    /// Returns the name of an entry, unless another one is in quarantine under it.
    async fn quarantine_key(&self, entry: &Quarantined) -> Result<String, Undone> {
        let statement = "SELECT 1 FROM quarantine WHERE person_id = $1 AND key = $2 AND identity <> $3";
        let identity = entry.identity().hash().cast_signed();
        let taken = self.session.row_or_none(statement, &[&self.person, &entry.key, &identity]).await?;
        Ok(if taken.is_some() { entry.identity().key_with_id() } else { entry.key.clone() })
    }

    /// Marks the stored version of an entry whose new one cannot be stored.
    async fn supersede(&self, entry: &Quarantined, changes: &mut Changes<'_>) -> Result<(), Undone> {
        let tables = match entry.table {
            Some(table) => vec![table],
            None => resource_tables().map(|known| known.table.as_str()).collect(),
        };
        let key_with_id = entry.identity().key_with_id();
        for table in tables {
            let statement = fill_in(include_str!("../../../schema/postgres/supersede.sql"), table);
            let marked = self
                .session
                .rows(&statement, &[&self.person, &entry.key, &key_with_id, &entry.id, &self.now])
                .await?;
            for row in marked {
                changes.hidden(table, row.try_get(0)?);
            }
        }
        Ok(())
    }

    /// Returns whether an entry seems to have been renamed. Until a full pull has told, the older of
    /// two that read the same is superseded.
    pub(super) async fn met_a_renamed_entry(&self, changes: &mut Changes<'_>) -> Result<bool, Undone> {
        let mut met = false;
        let mut doubles = Vec::new();
        for (table, changed) in &changes.by_table {
            let new: Vec<&Row> = changed.new.iter().map(|change| change.row).collect();
            if let Some(keys) = renamed(self.session, self.person, table, &new).await? {
                met = true;
                doubles.push((*table, keys));
            }
        }
        for (table, keys) in doubles {
            let statement = format!(
                "UPDATE \"{table}\" SET superseded_at = $3
                  WHERE person_id = $1 AND key = ANY($2) AND superseded_at IS NULL RETURNING key"
            );
            for row in self.session.rows(&statement, &[&self.person, &keys, &self.now]).await? {
                changes.hidden(table, row.try_get(0)?);
            }
        }
        Ok(met)
    }
}

/// Reads what is stored under keys.
pub(super) async fn known<'k>(
    session: &Session,
    person: &str,
    keys: impl Iterator<Item = (&'static str, &'k str)>,
) -> Result<Known, Undone> {
    let keys = by_table(keys);
    let looks = keys.iter().map(|(table, keys)| async move {
        let rows = session.rows(&fill_in(KNOWN, table), &[&person, keys]).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let stored = StoredVersion {
                id: row.try_get(1)?,
                content_hash: row.try_get(2)?,
                is_deleted: row.try_get(3)?,
                is_superseded: row.try_get(4)?,
                last_updated: row.try_get(5)?,
            };
            found.insert(row.try_get(0)?, stored);
        }
        Ok::<_, Undone>((*table, found))
    });
    Ok(together(looks).await?.into_iter().collect())
}

/// Returns who holds a key, as seen from a thing that might be stored under it.
pub(super) fn holder(stored: Option<&StoredVersion>, row: &Row) -> Holder {
    Holder::of(stored.map(|stored| stored.id.as_deref()), row.id.as_deref())
}

fn by_table<'k>(keys: impl Iterator<Item = (&'static str, &'k str)>) -> BTreeMap<&'static str, Vec<&'k str>> {
    let mut found: BTreeMap<&'static str, Vec<&'k str>> = BTreeMap::new();
    for (table, key) in keys {
        found.entry(table).or_default().push(key);
    }
    found
}

/// Looks for rows with the id of a new one under another key, as a renamed entry leaves them. Twins
/// that arrive together are two things. Returns the keys of those that read the same as the new
/// row, or `None` where there is no such row at all.
pub(super) async fn renamed(
    session: &Session,
    person: &str,
    table: &str,
    new: &[&Row],
) -> Result<Option<Vec<String>>, Undone> {
    let by_id: HashMap<&str, &Row> = new.iter().filter_map(|row| Some((row.id.as_deref()?, *row))).collect();
    if by_id.is_empty() {
        return Ok(None);
    }
    let keys: HashSet<&str> = new.iter().map(|row| row.key.as_str()).collect();
    let ids: Vec<&str> = by_id.keys().copied().collect();
    let statement = format!(
        "SELECT id, key, content_hash FROM \"{table}\"
          WHERE person_id = $1 AND deleted_at IS NULL AND id = ANY($2)"
    );
    let mut doubles = None;
    for found in session.rows(&statement, &[&person, &ids]).await? {
        let (id, key): (&str, String) = (found.try_get(0)?, found.try_get(1)?);
        let Some(row) = by_id.get(id).filter(|_| !keys.contains(key.as_str())) else { continue };
        let doubles = doubles.get_or_insert_with(Vec::new);
        if found.try_get::<_, &[u8]>(2)? == row.content_hash {
            doubles.push(key);
        }
    }
    Ok(doubles)
}

/// Returns whether PostgreSQL's functions can read a resource. One that holds U+0000 or half a surrogate
/// pair would make every look into its table fail, for all rows.
pub(in crate::warehouse) fn is_readable(resource: &str) -> bool {
    let mut rest = resource;
    let mut expects_low = false;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        if expects_low && at > 0 {
            return false;
        }
        let escape = &rest[at + 1..];
        let Some(hex) = escape.strip_prefix('u').and_then(|hex| hex.get(..4)) else {
            if expects_low {
                return false;
            }
            rest = escape.get(1..).unwrap_or_default();
            continue;
        };
        let unit = u16::from_str_radix(hex, 16).unwrap_or_default();
        match (unit, expects_low) {
            (0xDC00..=0xDFFF, true) => expects_low = false,
            (0xD800..=0xDBFF, false) => expects_low = true,
            (0 | 0xD800..=0xDFFF, _) | (_, true) => return false,
            _ => {}
        }
        rest = &escape[5..];
    }
    !expects_low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgresql_cannot_read_is_told_from_what_it_can() {
        for good in [
            r#"{"a":"plain"}"#,
            r#"{"a":"\u00e9\n\\u0000"}"#,
            r#"{"a":"\ud83d\ude00 and \uD83D\uDE00"}"#,
            r#"{"a":"\\"}"#,
        ] {
            assert!(is_readable(good), "{good}");
        }
        for bad in [
            r#"{"a":"\u0000"}"#,
            r#"{"a":"\\\u0000"}"#,
            r#"{"a":"\ud83d"}"#,
            r#"{"a":"\ud83d and \ude00"}"#,
            r#"{"a":"\ude00"}"#,
            r#"{"a":"\ud83d\n"}"#,
            r#"{"a":"\ud83d\ud83d\ude00"}"#,
        ] {
            assert!(!is_readable(bad), "{bad}");
        }
    }
}
