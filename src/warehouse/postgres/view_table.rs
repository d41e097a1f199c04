//! The table that rows of resources are kept in, as text: its CREATE, its indexes, its INSERT and its DELETE.
//!
//! Promise: columns, names and indexes are SQLite's; types are PostgreSQL's. Each text is asked for by the name of a
//! table, which is another one while it is built anew.

use xxhash_rust::xxh3::xxh3_128;

use super::medicines;
use super::view_cells::{INDEXED_BYTES_MAX, Kind};
use crate::plan::resource_type::ResourceType;
use crate::views::{AnalystTable, Column, Index, Made, RowSource, SOURCE_HASH, persons_columns};
use crate::warehouse::days::days_of;

/// When a row's resource was last changed here: the last column, unless a user's view has one of its own.
const CHANGED_AT: &str = "changed_at";

/// One table, and what it is made of.
#[derive(Debug)]
pub(super) struct ViewTable {
    pub(super) name: String,
    pub(super) source: RowSource,
    /// The table of the resources that it is made of; `None` if it is made of all.
    pub(super) source_table: Option<String>,
    pub(super) has_changed_at: bool,
    /// What its own columns hold, behind `person_id` and `key`.
    pub(super) kinds: Vec<Kind>,
    /// The columns with a person's days, by their places.
    pub(super) days: Vec<usize>,
    /// What the rows depend on, hashed: the definition, the table, and the evaluator's source.
    pub(super) definition: String,
}

impl ViewTable {
    /// Returns the table where it is made of resources.
    pub(super) fn of(table: &AnalystTable) -> Option<Self> {
        let Made::Of(source) = &table.made else { return None };
        let (name, columns) = (&table.name, source.columns());
        let source_table = source
            .resource_type()
            .map(|name| ResourceType::by_name(name).map_or_else(String::new, |known| known.table.clone()));
        let mut made = Self {
            name: name.clone(),
            source: source.clone(),
            source_table,
            has_changed_at: !columns.iter().any(|column| column.name.eq_ignore_ascii_case(CHANGED_AT)),
            kinds: columns.iter().map(|column| kind(name, source, column)).collect(),
            days: days_of(name, columns),
            definition: String::new(),
        };
        made.definition =
            hash(&[&table.definition, &made.create(name), &made.late_indexes(name), SOURCE_HASH]);
        Some(made)
    }

    /// Returns whether `persons` is made of it.
    pub(super) fn concerns_persons(&self) -> bool {
        self.name == "patients" || !self.days.is_empty()
    }

    /// Returns whether it is made of the resources of a table.
    pub(super) fn is_of(&self, source_table: &str) -> bool {
        self.source_table.as_deref().is_none_or(|of| of == source_table)
    }

    fn columns(&self) -> impl Iterator<Item = (&str, Kind)> {
        let own = self.source.columns().iter().map(|column| column.name.as_str());
        own.zip(self.kinds.iter().copied())
    }

    /// The table, and the index that pages, sweeps and purges use.
    pub(super) fn create(&self, name: &str) -> String {
        let mut lines = vec!["  person_id text NOT NULL".to_owned(), "  \"key\" text NOT NULL".to_owned()];
        lines.extend(self.columns().map(|(name, kind)| format!("  \"{name}\" {}", kind.sql())));
        if self.has_changed_at {
            lines.push(format!("  {CHANGED_AT} timestamptz NOT NULL"));
        }
        let lines = lines.join(",\n");
        let of_medicines = medicines::indexes(&self.name, name);
        format!(
            "CREATE TABLE \"{name}\" (\n{lines}\n);\nCREATE INDEX ON \"{name}\" (person_id, \"key\");{of_medicines}"
        )
    }

    /// The indexes that queries use, made once there are rows.
    pub(super) fn late_indexes(&self, name: &str) -> String {
        let index = |columns: String| format!("CREATE INDEX ON \"{name}\" ({columns});\n");
        let of_column = |column: &Column| match column.index {
            Index::None => String::new(),
            Index::Single => index(format!("\"{}\"", column.name)),
            Index::OfPerson => index(format!("person_id, \"{}\"", column.name)),
        };
        match &self.source {
            RowSource::View(view) => view.columns.iter().map(of_column).collect(),
            RowSource::Codings => index("code, system".to_owned()),
        }
    }

    /// Takes a person, an array of keys, one of cells for each column, and, where there is a column for it, one of
    /// when they changed.
    pub(super) fn insert(&self, name: &str) -> String {
        format!("INSERT INTO \"{name}\" ({}) {}", self.all_columns().join(", "), self.given())
    }

    fn all_columns(&self) -> Vec<String> {
        let own = ["person_id".to_owned(), "\"key\"".to_owned()].into_iter();
        let all = own.chain(self.columns().map(|(column, _)| format!("\"{column}\"")));
        all.chain(self.has_changed_at.then(|| CHANGED_AT.to_owned())).collect()
    }

    /// Selects the rows that those parameters give, in the order of the columns.
    fn given(&self) -> String {
        let (mut cells, mut names) = (vec!["$1".to_owned(), "u.k".to_owned()], vec!["k".to_owned()]);
        for (at, (_, kind)) in self.columns().enumerate() {
            cells.push(format!("u.c{at}{}", kind.cast()));
            names.push(format!("c{at}"));
        }
        if self.has_changed_at {
            cells.push("u.t".to_owned());
            names.push("t".to_owned());
        }
        let arrays: Vec<String> = (2..names.len() + 2).map(|number| format!("${number}")).collect();
        let [cells, arrays, names] = [cells, arrays, names].map(|texts| texts.join(", "));
        format!("SELECT {cells} FROM unnest({arrays}) AS u({names})")
    }

    /// Asks whether the rows of a person whose keys lie between two are others than those given: takes what
    /// [`insert`](Self::insert) takes, then the two keys, of which the second is among them and may be NULL. What is
    /// filled in from elsewhere is left out.
    pub(super) fn differs(&self, source_table: &str) -> String {
        let columns = self.all_columns();
        let (after, up_to) = (columns.len() + 1, columns.len() + 2);
        let is_filled = |column: &str| {
            medicines::are_filled_in(&self.name) && medicines::FILLED.contains(&column.trim_matches('"'))
        };
        let looked_at = columns.iter().map(|column| {
            if is_filled(column) {
                format!("CASE WHEN medication_id IS NULL THEN {column} END AS {column}")
            } else {
                column.clone()
            }
        });
        let looked_at = looked_at.collect::<Vec<String>>().join(", ");
        let (name, of_source, given) = (&self.name, self.of_source(source_table), self.given());
        let columns = columns.join(", ");
        format!(
            "WITH given ({columns}) AS ({given}),
      anew AS (SELECT {looked_at} FROM given),
      stored AS (SELECT {looked_at} FROM \"{name}\"
                  WHERE person_id = $1 AND \"key\" > ${after} AND (${up_to} IS NULL OR \"key\" <= ${up_to}){of_source})
SELECT EXISTS (TABLE stored EXCEPT ALL TABLE anew) OR EXISTS (TABLE anew EXCEPT ALL TABLE stored)"
        )
    }

    /// Narrows rows to those of the resources of one table, where there are others.
    fn of_source(&self, source_table: &str) -> String {
        match (&self.source_table, ResourceType::by_table(source_table)) {
            (None, Some(known)) => format!(" AND resource_type = '{}'", known.name),
            _ => String::new(),
        }
    }

    /// Takes a person and the keys of its resources of one source.
    pub(super) fn forget(&self, source_table: &str) -> String {
        let (name, of_source) = (&self.name, self.of_source(source_table));
        format!("DELETE FROM \"{name}\" WHERE person_id = $1 AND \"key\" = ANY($2){of_source}")
    }
}

/// What a column holds; an index limits what it takes.
fn kind(table: &str, source: &RowSource, column: &Column) -> Kind {
    let limit = match source {
        // Both are in one index.
        RowSource::Codings if ["code", "system"].contains(&column.name.as_str()) => {
            Some(INDEXED_BYTES_MAX / 3 * 2)
        }
        _ if column.index != Index::None || medicines::is_indexed(table, &column.name) => {
            Some(INDEXED_BYTES_MAX)
        }
        _ => None,
    };
    match Kind::of(column) {
        Kind::Text(_) => Kind::Text(limit),
        kind => kind,
    }
}

/// A view of the rows of `observations` that are of one category.
#[derive(Debug)]
pub(super) struct CategoryView {
    pub(super) name: String,
    pub(super) create: String,
    pub(super) definition: String,
}

impl CategoryView {
    /// Returns the view where the table is one; its columns are those of `observations`.
    pub(super) fn of(table: &AnalystTable, observations: &ViewTable) -> Option<Self> {
        let Made::Category(category) = table.made else { return None };
        let own = ["person_id", "key"].into_iter();
        let columns = own.chain(observations.source.columns().iter().map(|column| column.name.as_str()));
        let columns: Vec<_> = columns.chain([CHANGED_AT]).map(|name| format!("\"{name}\"")).collect();
        let create = format!(
            "CREATE VIEW \"{}\" AS SELECT {} FROM \"{}\" WHERE category = '{category}'",
            table.name,
            columns.join(", "),
            observations.name
        );
        Some(Self { name: table.name.clone(), definition: hash(&[&create]), create })
    }
}

/// The table of persons.
pub(super) fn create_persons(name: &str) -> String {
    let columns = persons_columns().iter();
    let columns = columns.map(|column| format!(",\n  {} {}", column.name, Kind::of(column).sql()));
    format!("CREATE TABLE \"{name}\" (\n  person_id text PRIMARY KEY{}\n);", columns.collect::<String>())
}

pub(super) fn hash(texts: &[&str]) -> String {
    format!("{:032x}", xxh3_128(texts.join("\n").as_bytes()))
}
