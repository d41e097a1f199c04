//! What an expression stands for while it is compiled: JSON places and SQL values, and how
//! each is written in SQL.
//!
//! Promise: the SQL here never raises an error whatever the JSON holds. A value of another
//! JSON type than the element's is NULL, and `json_each` is only given arrays.
//! It takes for granted that `r.resource` is JSON, which every SELECT checks first.

use crate::views::elements::{Element, Kind};

/// The JSON text a place is looked up in.
#[derive(Clone, Debug)]
pub(super) enum Doc {
    /// The resource of the row, `r.resource`.
    Resource,
    /// An element of the array that `json_each` alias runs over.
    Each(usize),
    /// Any SQL that gives JSON text of an object, or NULL.
    Sql(String),
}

impl Doc {
    pub(super) fn sql(&self) -> String {
        match self {
            Self::Resource => "r.resource".to_owned(),
            // `value` of a text element is not JSON; asking it for a path would be an error.
            Self::Each(alias) => {
                format!("CASE j{alias}.type WHEN 'object' THEN j{alias}.value END")
            }
            Self::Sql(sql) => sql.clone(),
        }
    }
}

/// A place in a JSON document.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) doc: Doc,
    /// `$` and steps by names of the schema and indexes, so it needs no escaping.
    pub(super) path: String,
}

impl Place {
    pub(super) fn step(&self, name: &str) -> Self {
        Self { doc: self.doc.clone(), path: format!("{}.{name}", self.path) }
    }

    pub(super) fn index(&self, index: u64) -> Self {
        Self { doc: self.doc.clone(), path: format!("{}[{index}]", self.path) }
    }

    fn call(&self, function: &str) -> String {
        format!("{function}({}, '{}')", self.doc.sql(), self.path)
    }

    pub(super) fn json_type(&self) -> String {
        match self.doc {
            Doc::Each(alias) if self.path == "$" => format!("j{alias}.type"),
            _ => self.call("json_type"),
        }
    }

    pub(super) fn extract(&self) -> String {
        if self.path == "$" { self.doc.sql() } else { self.call("json_extract") }
    }

    /// What `json_each` runs over: the array at this place, or nothing.
    ///
    /// Cut out first: `json_each` would otherwise parse the whole resource again each time.
    pub(super) fn array(&self) -> String {
        format!("CASE {} WHEN 'array' THEN {} END", self.json_type(), self.extract())
    }
}

/// What one element of a collection is.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A JSON value where the schema says one is.
    Node(Place, Kind),
    /// A `value[x]` that no `ofType()` has settled yet: its owner's place and type, its group.
    Choice(Place, &'static str, Vec<Element>),
    /// A SQL expression; NULL is the empty collection.
    Value(String, Kind),
}

impl Item {
    pub(super) fn nothing() -> Self {
        Self::Value("NULL".to_owned(), Kind::Nothing)
    }

    /// An element of the array `json_each` alias runs over.
    pub(super) fn each(alias: usize, kind: Kind) -> Self {
        match kind {
            Kind::Complex(_) => Self::Node(Place { doc: Doc::Each(alias), path: "$".to_owned() }, kind),
            _ => Self::Value(typed_value(&format!("j{alias}.type"), &format!("j{alias}.value"), kind), kind),
        }
    }

    /// What it is called in a message, and `None` for a choice.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Node(_, kind) | Self::Value(_, kind) => Some(*kind),
            Self::Choice(..) => None,
        }
    }

    /// A SQL condition: this is there, and of the type the schema says. True, false or NULL.
    pub(super) fn exists(&self) -> String {
        match self {
            Self::Node(place, kind) => has_type(&place.json_type(), &place.extract(), *kind),
            Self::Choice(place, _, elements) => {
                // What is mostly there is asked for first.
                let mut elements = elements.clone();
                elements.sort_by_key(|element| !element.name.ends_with("Quantity"));
                // CASE and not OR, which SQLite evaluates to its end.
                let members: Vec<_> = elements
                    .iter()
                    .map(|element| Self::Node(place.step(element.name), element.kind).exists())
                    .map(|present| format!("WHEN {present} THEN 1"))
                    .collect();
                format!("CASE {} ELSE 0 END", members.join(" "))
            }
            Self::Value(sql, _) => format!("({sql}) IS NOT NULL"),
        }
    }

    /// The SQL value, NULL where the JSON holds something else; an error for what has none.
    pub(super) fn value(&self) -> Result<String, String> {
        match self {
            Self::Node(_, Kind::Complex(name)) => {
                Err(format!("it gives a whole {name}, which is no single value: name one of its elements"))
            }
            Self::Node(place, kind) => Ok(typed_value(&place.json_type(), &place.extract(), *kind)),
            Self::Choice(_, _, elements) => {
                let group = elements.first().map(|element| element.name).unwrap_or_default();
                Err(format!("it can be of several types (`{group}`, …): say which with ofType()"))
            }
            Self::Value(sql, _) => Ok(sql.clone()),
        }
    }

    /// SQL of this, and of its value `v` as JSON, for an aggregate: where `exists()` holds.
    fn json(&self) -> Result<(String, &'static str), String> {
        match self {
            Self::Node(place, Kind::Complex(_)) => Ok((place.extract(), "json(v)")),
            Self::Node(_, Kind::Boolean) | Self::Value(_, Kind::Boolean) => {
                let value = self.value()?;
                Ok((format!("CASE {value} WHEN 1 THEN 'true' ELSE 'false' END"), "json(v)"))
            }
            _ => Ok((self.value()?, "v")),
        }
    }
}

/// `value` if its JSON type is the one of `kind`, else NULL.
fn typed_value(json_type: &str, value: &str, kind: Kind) -> String {
    match kind {
        Kind::Boolean => format!("CASE {json_type} WHEN 'true' THEN 1 WHEN 'false' THEN 0 END"),
        Kind::Integer => format!("CASE WHEN {} THEN {value} END", has_type(json_type, value, kind)),
        Kind::Decimal => format!("CASE WHEN {json_type} IN ('integer', 'real') THEN {value} END"),
        Kind::Nothing | Kind::Complex(_) => "NULL".to_owned(),
        _ => format!("CASE {json_type} WHEN 'text' THEN {value} END"),
    }
}

fn has_type(json_type: &str, value: &str, kind: Kind) -> String {
    match kind {
        Kind::Complex(_) => format!("{json_type} = 'object'"),
        Kind::Boolean => format!("{json_type} IN ('true', 'false')"),
        // Digits beyond 64 bits come out of JSON as a real number.
        Kind::Integer => format!("{json_type} = 'integer' AND typeof({value}) = 'integer'"),
        Kind::Decimal => format!("{json_type} IN ('integer', 'real')"),
        Kind::Nothing => "0".to_owned(),
        _ => format!("{json_type} = 'text'"),
    }
}

/// A `json_each` an element comes from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) alias: usize,
    /// What it runs over, and its elements' kind.
    pub(super) array: Place,
}

impl Source {
    fn table(&self) -> String {
        format!("json_each({}) AS j{}", self.array.array(), self.alias)
    }
}

/// What an expression gives: the elements of its sources for which its conditions hold.
#[derive(Clone, Debug)]
pub(super) struct Collection {
    /// Outermost first; each may refer to those before it. Empty: at most one element.
    pub(super) sources: Vec<Source>,
    /// SQL that must be true.
    pub(super) conditions: Vec<String>,
    pub(super) item: Item,
}

impl Collection {
    pub(super) fn one(item: Item) -> Self {
        Self { sources: Vec::new(), conditions: Vec::new(), item }
    }

    pub(super) fn value(sql: String, kind: Kind) -> Self {
        Self::one(Item::Value(sql, kind))
    }

    pub(super) fn nothing() -> Self {
        Self::one(Item::nothing())
    }

    pub(super) fn is_many(&self) -> bool {
        !self.sources.is_empty()
    }

    /// The elements `inner` gives for each element of this.
    pub(super) fn then(self, inner: Self) -> Self {
        let mut sources = self.sources;
        let mut conditions = self.conditions;
        sources.extend(inner.sources);
        conditions.extend(inner.conditions);
        Self { sources, conditions, item: inner.item }
    }

    /// The array this runs over, where it is just that: nothing filtered, nothing flattened.
    pub(super) fn plain_array(&self) -> Option<&Source> {
        let [source] = self.sources.as_slice() else {
            return None;
        };
        let whole = match &self.item {
            Item::Node(Place { doc: Doc::Each(alias), path }, _) => *alias == source.alias && path == "$",
            _ => false,
        };
        (whole && self.conditions.is_empty()).then_some(source)
    }

    /// ` FROM … WHERE …`, for the elements that exist.
    pub(super) fn clauses(&self) -> String {
        let sources: Vec<_> = self.sources.iter().map(Source::table).collect();
        let from = if sources.is_empty() {
            String::new()
        } else {
            format!(" FROM {}", sources.join(" CROSS JOIN "))
        };
        format!("{from} WHERE {}", self.holds())
    }

    /// The conditions and the element's own existence, as one SQL condition.
    pub(super) fn holds(&self) -> String {
        let mut all: Vec<_> = self.conditions.iter().map(|condition| format!("({condition})")).collect();
        all.push(format!("({})", self.item.exists()));
        all.join(" AND ")
    }

    /// 1 or 0: at least one element exists.
    pub(super) fn exists(&self) -> String {
        if self.is_many() {
            format!("EXISTS (SELECT 1{})", self.clauses())
        } else {
            format!("(({}) IS TRUE)", self.holds())
        }
    }

    /// The first element's value, or NULL.
    pub(super) fn first_value(&self) -> Result<String, String> {
        let value = self.item.value()?;
        if self.is_many() {
            return Ok(format!("(SELECT {value}{} LIMIT 1)", self.clauses()));
        }
        if self.conditions.is_empty() {
            return Ok(value);
        }
        let conditions: Vec<_> = self.conditions.iter().map(|condition| format!("({condition})")).collect();
        Ok(format!("CASE WHEN {} THEN {value} END", conditions.join(" AND ")))
    }

    /// All elements as a JSON array.
    pub(super) fn json_array(&self) -> Result<String, String> {
        let (value, json) = self.item.json()?;
        Ok(self.aggregate(&format!("json_group_array({json})"), &value))
    }

    /// An aggregate over `value`, which it calls `v`, of all elements.
    ///
    /// Never over `value` itself: an aggregate whose columns all are of an outer query is
    /// taken by SQLite for an aggregate of that query.
    pub(super) fn aggregate(&self, aggregate: &str, value: &str) -> String {
        format!("(SELECT {aggregate} FROM (SELECT {value} AS v{}))", self.clauses())
    }
}

/// A SQL text literal.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
