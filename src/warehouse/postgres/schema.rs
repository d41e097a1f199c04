//! The schema, as text: what makes a warehouse in a database, and changes nothing where there is one.

use super::tables::fill_in;
use crate::plan::resource_type::ResourceType;

/// The number of the schema that this program writes.
pub(in crate::warehouse) const VERSION: i64 = 18;
/// A program can work with this schema if it knows the one of this number at least. A migration that only adds what
/// an older program need not know leaves it as it is.
const NEEDS_WORKER: i64 = 17;

/// The migrations in their order. The first comes up to the number of SQLite's fourteenth; the others have numbers of
/// their own.
const MIGRATIONS: [(i64, &str); 5] = [
    (14, include_str!("../../../schema/postgres/0001_warehouse.sql")),
    (15, include_str!("../../../schema/postgres/0002_workers.sql")),
    (16, include_str!("../../../schema/postgres/0003_rosters.sql")),
    (17, include_str!("../../../schema/postgres/0004_skew.sql")),
    (VERSION, include_str!("../../../schema/postgres/0005_study_patients.sql")),
];

/// How a schema is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct SchemaShape<'s> {
    pub(super) schema: &'s str,
    /// Into so many parts each table of resources is divided by patient; 0 leaves it whole.
    pub(super) partitions: u32,
    pub(super) has_lz4: bool,
    /// What makes the analysts' tables of a warehouse without rows.
    pub(super) first_views: &'s str,
}

impl SchemaShape<'_> {
    /// Returns the transactions that make the schema, to be carried out one after the other. There is one, but for
    /// tables in parts, for all of which a server has too few locks.
    pub(super) fn transactions(&self) -> Vec<String> {
        let bookkeeping: String =
            MIGRATIONS.iter().map(|(version, text)| self.migration(*version, text)).collect();
        let tables = ResourceType::all().map(|known| self.resource_table(&known.table));
        let end = format!("{}\n{}", self.first_views, self.end());
        if self.partitions == 0 {
            let tables: String = tables.collect();
            return vec![self.transaction(&format!("{bookkeeping}{tables}{end}"))];
        }
        let each = [bookkeeping].into_iter().chain(tables).chain([end]);
        each.map(|part| self.transaction(&part)).collect()
    }

    fn transaction(&self, work: &str) -> String {
        let begin = self.fill(include_str!("../../../schema/postgres/begin_migration.sql"));
        format!("BEGIN;\n{begin}\n{work}\nCOMMIT;\n")
    }

    fn migration(&self, version: i64, text: &str) -> String {
        let step = include_str!("../../../schema/postgres/migration.sql");
        step.replace("{version}", &version.to_string()).replace("{migration}", &self.fill(text))
    }

    fn resource_table(&self, table: &str) -> String {
        let partitioned = if self.partitions > 0 { " PARTITION BY HASH (person_id)" } else { "" };
        let text = include_str!("../../../schema/postgres/resource_table.sql");
        let whole = self.fill(&fill_in(text, table)).replace("{partitioned}", partitioned);
        let part =
            self.fill(&fill_in(include_str!("../../../schema/postgres/resource_partition.sql"), table));
        let parts = (0..self.partitions).map(|number| part.replace("{part}", &number.to_string()));
        [whole].into_iter().chain(parts).map(|text| without_comments(&text)).collect()
    }

    /// Grants, and that the schema has come up to this program's version.
    fn end(&self) -> String {
        let tables: Vec<String> = ResourceType::all().map(|known| format!("\"{}\"", known.table)).collect();
        let grants =
            include_str!("../../../schema/postgres/grants.sql").replace("{tables}", &tables.join(", "));
        format!(
            "{}\nINSERT INTO migration (version, needs_worker) VALUES ({VERSION}, {NEEDS_WORKER}) ON CONFLICT DO NOTHING;\n",
            self.fill(&grants)
        )
    }

    fn fill(&self, text: &str) -> String {
        let compression = if self.has_lz4 { "COMPRESSION lz4" } else { "" };
        text.replace("{schema}", self.schema)
            .replace("{version}", &VERSION.to_string())
            .replace("{parts}", &self.partitions.to_string())
            .replace("{compression}", compression)
    }
}

/// Returns what makes the roles, as a text for a role that may make some.
pub(super) fn roles(schema: &str) -> String {
    include_str!("../../../schema/postgres/roles.sql").replace("{schema}", schema)
}

/// Returns all that makes a warehouse, for somebody who carries it out by hand.
pub(super) fn script(shape: SchemaShape<'_>) -> String {
    let head = format!(
        "-- What `healthex-sync migrate` does, for psql by a role that may create roles and schemas:\n\
         --   psql -v ON_ERROR_STOP=1 DATABASE < this.sql\n\
         -- It can be carried out again, and changes nothing then. Where the server was built without lz4, take\n\
         -- COMPRESSION lz4 out.\n\n{}\n",
        roles(shape.schema)
    );
    [head].into_iter().chain(shape.transactions()).collect::<Vec<_>>().join("\n")
}

/// What is said once at the head of a file need not be said of each table.
pub(super) fn without_comments(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("--"));
    lines.flat_map(|line| [line, "\n"]).collect()
}
