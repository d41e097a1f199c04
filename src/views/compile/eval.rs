//! Expressions to collections: steps, indexes, literals, constants.
//!
//! A repeating step costs a `json_each`, any other is a longer JSON path.
//!
//! `first()` of several steps is tried on the head first: with `[0]` at each repeating step
//! the answer is nearly always there, at the price of one JSON path. Only where it is not, and
//! some `[1]` is, are the arrays walked. `Compiler::head` is that second way of reading a tree.

use std::collections::BTreeMap;

use super::node::{Collection, Doc, Item, Place, Source, quoted};
use crate::views::definition::Constant;
use crate::views::elements::Kind;
use crate::views::fhirpath::Expr;
use crate::views::{Target, elements};

/// Longest SQL one expression may become.
const SQL_BYTES_MAX: usize = 100_000;

/// What an expression is evaluated on.
#[derive(Clone, Debug)]
pub(super) struct Focus {
    pub(super) item: Item,
    /// SQL of `%rowIndex`.
    pub(super) row_index: String,
    pub(super) resource_type: &'static str,
}

impl Focus {
    pub(super) fn resource(resource_type: &'static str) -> Self {
        Self { item: resource_item(resource_type), row_index: "0".to_owned(), resource_type }
    }

    pub(super) fn on(&self, item: Item) -> Self {
        Self { item, row_index: self.row_index.clone(), resource_type: self.resource_type }
    }
}

fn resource_item(resource_type: &'static str) -> Item {
    Item::Node(Place { doc: Doc::Resource, path: "$".to_owned() }, Kind::Complex(resource_type))
}

pub(super) struct Compiler<'a> {
    pub(super) target: Target,
    pub(super) constants: &'a BTreeMap<String, Constant>,
    pub(super) aliases: usize,
    /// Read repeating steps as their first element.
    pub(super) head: bool,
    /// SQL that is true where a step read as its first element has a second one.
    pub(super) more: Vec<String>,
    /// An element the schema does not have is empty, not refused: `repeat` alone.
    pub(super) lenient: bool,
    /// What a strict SELECT that fails says it failed in: the column or filter at hand.
    pub(super) place: String,
    /// What takes the first of several values, or has no value ever: noted for the lint.
    pub(super) notes: Vec<String>,
}

impl Compiler<'_> {
    pub(super) fn alias(&mut self) -> usize {
        self.aliases += 1;
        self.aliases
    }

    /// What `expr` gives on `focus`, or why it cannot be compiled.
    pub(super) fn eval(&mut self, expr: &Expr, focus: &Focus) -> Result<Collection, String> {
        let collection = match expr {
            Expr::Empty => Collection::nothing(),
            Expr::Text(text) => Collection::value(quoted(text), Kind::String),
            Expr::Boolean(value) => Collection::value(i32::from(*value).to_string(), Kind::Boolean),
            Expr::Integer(digits) => Collection::value(integer_sql(digits)?, Kind::Integer),
            Expr::Decimal(digits) => Collection::value(digits.clone(), Kind::Decimal),
            Expr::Date(text) => Collection::value(quoted(text), Kind::Date),
            Expr::DateTime(text) => Collection::value(quoted(text), Kind::DateTime),
            Expr::Time(text) => Collection::value(quoted(text), Kind::Time),
            Expr::Constant(name) => self.constant(name, focus)?,
            Expr::This => Collection::one(focus.item.clone()),
            Expr::Member(base, name) => self.member(base.as_deref(), name, focus)?,
            Expr::Call(base, name, arguments) => self.call(base.as_deref(), name, arguments, focus)?,
            Expr::Index(base, index) => self.whole(|this| this.index(base, index, focus))?,
            Expr::Negative(operand) => self.whole(|this| this.negative(operand, focus))?,
            Expr::Binary(left, operator, right) => {
                self.whole(|this| this.binary(left, *operator, right, focus))?
            }
            Expr::Typed(operand, operator, type_name) => self.typed(operand, *operator, type_name, focus)?,
        };
        check_size(&collection)?;
        Ok(collection)
    }

    /// Evaluates with all elements of repeating steps, whatever is being read around it.
    pub(super) fn whole<T>(&mut self, evaluate: impl FnOnce(&mut Self) -> T) -> T {
        let head = std::mem::take(&mut self.head);
        let result = evaluate(self);
        self.head = head;
        result
    }

    /// What `expr` gives if the first of each repeating element is looked at alone, and SQL
    /// that is true where there is more to look at.
    pub(super) fn eval_head(&mut self, expr: &Expr, focus: &Focus) -> Result<(Collection, String), String> {
        let head = std::mem::replace(&mut self.head, true);
        let more_around = std::mem::take(&mut self.more);
        let result = self.eval(expr, focus);
        self.head = head;
        let more = std::mem::replace(&mut self.more, more_around);
        let more = if more.is_empty() { "0".to_owned() } else { more.join(" OR ") };
        Ok((result?, more))
    }

    pub(super) fn base(&mut self, base: Option<&Expr>, focus: &Focus) -> Result<Collection, String> {
        match base {
            Some(base) => self.eval(base, focus),
            None => Ok(Collection::one(focus.item.clone())),
        }
    }

    fn constant(&self, name: &str, focus: &Focus) -> Result<Collection, String> {
        match name {
            "rowIndex" => return Ok(Collection::value(focus.row_index.clone(), Kind::Integer)),
            "resource" | "rootResource" | "context" => {
                return Ok(Collection::one(resource_item(focus.resource_type)));
            }
            _ => {}
        }
        let Some(constant) = self.constants.get(name) else {
            return Err(format!("there is no constant `%{name}`"));
        };
        let sql = if constant.kind.is_text() { quoted(&constant.text) } else { constant.text.clone() };
        Ok(Collection::value(sql, constant.kind))
    }

    fn member(&mut self, base: Option<&Expr>, name: &str, focus: &Focus) -> Result<Collection, String> {
        // `Patient.name` is `name` where the focus is a Patient.
        let names_type =
            focus.item.kind() == Some(Kind::Complex(focus.resource_type)) && name == focus.resource_type;
        if base.is_none() && names_type {
            return Ok(Collection::one(focus.item.clone()));
        }
        let base = self.base(base, focus)?;
        let step = self.step(&base.item, name)?;
        Ok(base.then(step))
    }

    /// The element `name` of one item.
    pub(super) fn step(&mut self, item: &Item, name: &str) -> Result<Collection, String> {
        let (place, owner) = match item {
            Item::Node(place, Kind::Complex(owner)) => (place, *owner),
            Item::Choice(..) => {
                return Err(format!(
                    "what `{name}` is taken from can be of several types: say which with ofType()"
                ));
            }
            Item::Value(_, Kind::Nothing) => return Ok(Collection::nothing()),
            Item::Node(_, kind) | Item::Value(_, kind) => {
                return Err(format!("a {} has no element `{name}`", kind.name()));
            }
        };
        if let Some(element) = elements::element(owner, name) {
            return Ok(self.place(place.step(element.name), element.kind, element.repeats));
        }
        let choice = elements::choice(owner, name);
        if !choice.is_empty() {
            return Ok(Collection::one(Item::Choice(place.clone(), owner, choice)));
        }
        if self.lenient {
            return Ok(Collection::nothing());
        }
        Err(format!("{owner} has no element `{name}` in FHIR R4"))
    }

    fn place(&mut self, place: Place, kind: Kind, repeats: bool) -> Collection {
        if !repeats {
            return Collection::one(Item::Node(place, kind));
        }
        if self.head {
            self.more.push(format!("{} IS NOT NULL", place.index(1).json_type()));
            return Collection::one(Item::Node(place.index(0), kind));
        }
        let alias = self.alias();
        Collection {
            sources: vec![Source { alias, array: place }],
            conditions: Vec::new(),
            item: Item::each(alias, kind),
        }
    }

    fn index(&mut self, base: &Expr, index: &Expr, focus: &Focus) -> Result<Collection, String> {
        let collection = self.eval(base, focus)?;
        let digits = match self.eval(index, focus)?.item {
            Item::Value(sql, Kind::Integer) => sql.parse::<u64>().ok(),
            _ => None,
        };
        let Some(position) = digits else {
            return Err("an index must be a whole number, written out or a constant".to_owned());
        };
        self.nth(base, collection, position, focus)
    }

    /// The element at `position` of what `expr` gave; none if there are fewer.
    pub(super) fn nth(
        &mut self,
        expr: &Expr,
        collection: Collection,
        position: u64,
        focus: &Focus,
    ) -> Result<Collection, String> {
        if !collection.is_many() {
            return Ok(if position == 0 { collection } else { Collection::nothing() });
        }
        let kind = collection.item.kind();
        if let (Some(source), Some(kind)) = (collection.plain_array(), kind) {
            return Ok(Collection::one(Item::Node(source.array.index(position), kind)));
        }
        match (&collection.item, kind) {
            (Item::Node(place, Kind::Complex(_)), Some(kind)) => {
                let extract = place.extract();
                let element = format!("(SELECT {extract}{} LIMIT 1 OFFSET {position})", collection.clauses());
                let doc = Doc::Sql(element);
                Ok(Collection::one(Item::Node(Place { doc, path: "$".to_owned() }, kind)))
            }
            (_, Some(kind)) if position == 0 => {
                Ok(Collection::value(self.head_or_first(expr, &collection, focus)?, kind))
            }
            (item, Some(kind)) => {
                let value = item.value()?;
                let from = collection.clauses();
                Ok(Collection::value(format!("(SELECT {value}{from} LIMIT 1 OFFSET {position})"), kind))
            }
            (item, None) => item.value().map(|_| Collection::nothing()),
        }
    }

    /// The first value of `collection`, which `expr` gave; mostly found without `json_each`.
    pub(super) fn head_or_first(
        &mut self,
        expr: &Expr,
        collection: &Collection,
        focus: &Focus,
    ) -> Result<String, String> {
        let first = collection.first_value()?;
        if !collection.is_many() {
            return Ok(first);
        }
        let (head, more) = self.eval_head(expr, focus)?;
        if head.is_many() {
            return Ok(first);
        }
        Ok(format!("COALESCE({}, CASE WHEN {more} THEN {first} END)", head.first_value()?))
    }

    /// The single value of an operand or argument: SQL, and its kind.
    ///
    /// Several values where one is wanted: the first in a warehouse, an error if strict.
    pub(super) fn single(&mut self, expr: &Expr, focus: &Focus) -> Result<(String, Kind), String> {
        let collection = self.eval(expr, focus)?;
        let sql = self.single_of(expr, &collection, focus)?;
        Ok((sql, collection.item.kind().unwrap_or(Kind::Nothing)))
    }

    pub(super) fn single_of(
        &mut self,
        expr: &Expr,
        collection: &Collection,
        focus: &Focus,
    ) -> Result<String, String> {
        if !collection.is_many() {
            return collection.first_value();
        }
        match self.target {
            Target::Warehouse => {
                self.notes.push("can have several values: the first is taken".to_owned());
                self.head_or_first(expr, collection, focus)
            }
            Target::Strict => {
                let value = collection.item.value()?;
                // A path that is none makes SQLite give up and print it. That the count is in
                // it keeps the planner from evaluating it where it does not apply.
                let says = quoted(&format!(" values where one is expected: {}", self.place));
                let one = format!(
                    "CASE WHEN count(*) > 1 THEN json_extract('{{}}', count(*) || {says}) \
                     ELSE min(v) END"
                );
                Ok(collection.aggregate(&one, &value))
            }
        }
    }

    /// A condition as SQL (1, 0 or NULL); a single element that is no boolean counts as true.
    pub(super) fn condition(&mut self, expr: &Expr, focus: &Focus) -> Result<String, String> {
        let collection = self.eval(expr, focus)?;
        match collection.item.kind() {
            Some(Kind::Boolean | Kind::Nothing) => self.single_of(expr, &collection, focus),
            _ => Ok(format!("NULLIF({}, 0)", collection.exists())),
        }
    }

    /// A criterion, as `where()` takes it: a boolean and nothing else.
    pub(super) fn criterion(&mut self, expr: &Expr, focus: &Focus) -> Result<String, String> {
        self.whole(|this| {
            let collection = this.eval(expr, focus)?;
            match collection.item.kind() {
                Some(Kind::Boolean | Kind::Nothing) => this.single_of(expr, &collection, focus),
                Some(kind) => Err(format!("a condition must give a boolean, this gives a {}", kind.name())),
                None => Err("a condition must give a boolean: compare it, or ask exists()".to_owned()),
            }
        })
    }
}

fn integer_sql(digits: &str) -> Result<String, String> {
    let number = digits.parse::<i64>().map_err(|_| format!("{digits} does not fit into 64 bits"))?;
    Ok(number.to_string())
}

/// Nested `first()` multiplies SQL; far before a machine would feel it, it is refused.
fn check_size(collection: &Collection) -> Result<(), String> {
    let item = match &collection.item {
        Item::Node(place, _) | Item::Choice(place, ..) => match &place.doc {
            Doc::Sql(sql) => sql.len(),
            Doc::Resource | Doc::Each(_) => 0,
        },
        Item::Value(sql, _) => sql.len(),
    };
    let conditions: usize = collection.conditions.iter().map(String::len).sum();
    if SQL_BYTES_MAX < item + conditions || 20 < collection.sources.len() {
        return Err("it is too complex".to_owned());
    }
    Ok(())
}
