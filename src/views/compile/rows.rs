//! `select`, `forEach`, `forEachOrNull`, `repeat` and `unionAll` to the branches of one SELECT.
//!
//! SQLite has no LATERAL, but a table-valued function may refer to the tables left of it. So
//! a plain forEach joins `json_each` of the array itself; any other builds its elements as a
//! JSON array in a correlated subquery and joins `json_each` of that, whose key is `%rowIndex`.
//!
//! `unionAll` gives a branch for each of its members: columns left and right of it are
//! compiled once and written into each.

use super::eval::{Compiler, Focus};
use super::node::{Collection, Doc, Item, Place};
use super::output;
use super::output::OutputColumn;
use crate::views::definition::{ColumnDefinition, Select};
use crate::views::elements::Kind;
use crate::views::fhirpath::{Expr, TypeOperator};
use crate::views::refused::Refused;
use crate::views::{elements, fhirpath};

const BRANCHES_MAX: usize = 64;
const COLUMNS_MAX: usize = 500;
/// SQLite joins at most 64 tables.
const JOINS_MAX: usize = 60;
/// All branches together.
const SQL_BYTES_MAX: usize = 900_000;

/// One SELECT of the compound: what follows the resource's table, and what it yields.
#[derive(Clone, Debug, Default)]
pub(super) struct Branch {
    pub(super) joins: Vec<String>,
    pub(super) conditions: Vec<String>,
    pub(super) columns: Vec<OutputColumn>,
}

impl Branch {
    fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.joins.extend_from_slice(&other.joins);
        both.conditions.extend_from_slice(&other.conditions);
        both.columns.extend_from_slice(&other.columns);
        both
    }

    fn size(&self) -> usize {
        let columns: usize = self.columns.iter().map(|column| column.sql.len() + column.name.len()).sum();
        self.joins.iter().chain(&self.conditions).map(String::len).sum::<usize>() + columns
    }

    fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|column| column.name.as_str()).collect()
    }
}

/// How the elements of a forEach are joined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    /// No element, no row.
    Inner,
    /// No element, one row of NULLs.
    OrNull,
}

impl Compiler<'_> {
    pub(super) fn selects(&mut self, selects: &[Select], focus: &Focus) -> Result<Vec<Branch>, Refused> {
        let mut product = vec![Branch::default()];
        for select in selects {
            let branches = self.select(select, focus)?;
            product = multiply(&product, &branches)?;
        }
        Ok(product)
    }

    fn select(&mut self, select: &Select, focus: &Focus) -> Result<Vec<Branch>, Refused> {
        let (mut own, inner) = self.iteration(select, focus)?;
        for column in &select.column {
            own.columns.push(self.column(column, &inner)?);
        }
        let mut branches = multiply(&[own], &self.selects(&select.nested, &inner)?)?;
        if !select.union_all.is_empty() {
            branches = multiply(&branches, &self.union(&select.union_all, &inner)?)?;
        }
        Ok(branches)
    }

    fn union(&mut self, members: &[Select], focus: &Focus) -> Result<Vec<Branch>, Refused> {
        let mut union: Vec<Branch> = Vec::new();
        for member in members {
            union.extend(self.select(member, focus)?);
        }
        let first = union.first().map(Branch::names).unwrap_or_default();
        if let Some(other) = union.iter().map(Branch::names).find(|names| *names != first) {
            return Err(Refused::because(format!(
                "the members of a unionAll must have the same columns in the same order: [{}] is not [{}]",
                other.join(", "),
                first.join(", "),
            )));
        }
        for at in 0..first.len() {
            output::same_type(union.iter().filter_map(|branch| branch.columns.get(at)))?;
        }
        Ok(union)
    }

    fn iteration(&mut self, select: &Select, focus: &Focus) -> Result<(Branch, Focus), Refused> {
        let at = |expression: &str| {
            let expression = expression.to_owned();
            move |why: String| Refused::because(why).in_expression(&expression)
        };
        if let Some(path) = &select.for_each {
            return self.for_each(path, Join::Inner, focus).map_err(at(path));
        }
        if let Some(path) = &select.for_each_or_null {
            return self.for_each(path, Join::OrNull, focus).map_err(at(path));
        }
        if !select.repeat.is_empty() {
            return self.repeat(&select.repeat, focus).map_err(at(&select.repeat.join(", ")));
        }
        Ok((Branch::default(), focus.clone()))
    }

    fn for_each(&mut self, path: &str, join: Join, focus: &Focus) -> Result<(Branch, Focus), String> {
        let expr = fhirpath::parse(path)?;
        let collection = self.eval(&expr, focus)?;
        if !collection.is_many() {
            return for_one(&collection, join, focus);
        }
        let Some(kind) = collection.item.kind() else {
            return Err("it can be of several types: say which with ofType()".to_owned());
        };
        if let Some(source) = collection.plain_array() {
            let array = source.array.array();
            return Ok(joined(source.alias, &array, kind, join, focus));
        }
        let array = collection.json_array()?;
        Ok(joined(self.alias(), &array, kind, join, focus))
    }

    /// The nodes the paths lead to, and from those again, parents before their children.
    fn repeat(&mut self, paths: &[String], focus: &Focus) -> Result<(Branch, Focus), String> {
        let exprs = paths.iter().map(|path| fhirpath::parse(path)).collect::<Result<Vec<_>, _>>()?;
        if !exprs.iter().all(descends) {
            return Err(
                "repeat needs paths of elements below where they start; others would never end".to_owned()
            );
        }
        let lenient = std::mem::replace(&mut self.lenient, true);
        let result = self.repeat_over(&exprs, focus);
        self.lenient = lenient;
        result
    }

    fn repeat_over(&mut self, exprs: &[Expr], focus: &Focus) -> Result<(Branch, Focus), String> {
        let alias = self.alias();
        let tree = format!("tree{alias}");
        let mut terms = Vec::new();
        let mut kinds = Vec::new();
        for (number, expr) in exprs.iter().enumerate() {
            let collection = self.eval(expr, focus)?;
            note_kind(&mut kinds, &collection);
            terms.extend(tree_term(&collection, number, None)?);
        }
        let mut seen = 0;
        while let Some(kind) = kinds.get(seen).copied() {
            seen += 1;
            let node = Place { doc: Doc::Sql(format!("{tree}.node")), path: "$".to_owned() };
            let inner = focus.on(Item::Node(node, kind));
            for (number, expr) in exprs.iter().enumerate() {
                let collection = self.eval(expr, &inner)?;
                note_kind(&mut kinds, &collection);
                terms.extend(tree_term(&collection, number, Some(&tree))?);
            }
        }
        let kind = match kinds.as_slice() {
            [] => {
                self.notes.push("repeat: no such element here, so there are no rows".to_owned());
                return Ok(joined(alias, "NULL", Kind::Nothing, Join::Inner, focus));
            }
            [kind] => *kind,
            [first, second, ..] => {
                let (first, second) = (first.name(), second.name());
                return Err(format!(
                    "it reaches elements of different types, {first} and {second}: repeat one of them"
                ));
            }
        };
        let array = format!(
            "(WITH RECURSIVE {tree}(node, place) AS ({}) SELECT json_group_array(json(node)) \
             FROM (SELECT node FROM {tree} ORDER BY place))",
            terms.join(" UNION ALL "),
        );
        Ok(joined(alias, &array, kind, Join::Inner, focus))
    }

    fn column(&mut self, column: &ColumnDefinition, focus: &Focus) -> Result<OutputColumn, Refused> {
        let refused = |why: String| Refused::because(why).in_expression(&column.path).in_column(&column.name);
        let expr = fhirpath::parse(&column.path).map_err(refused)?;
        let notes_before = self.notes.len();
        self.place = format!("column `{}`", column.name);
        let output = self.output(column, &expr, focus).map_err(refused)?;
        for note in &mut self.notes[notes_before..] {
            *note = format!("column `{}`: `{}` {note}", column.name, column.path);
        }
        Ok(output)
    }

    fn output(
        &mut self,
        column: &ColumnDefinition,
        expr: &Expr,
        focus: &Focus,
    ) -> Result<OutputColumn, String> {
        let collection = self.eval(expr, focus)?;
        if column.collection {
            return Ok(OutputColumn::of_collection(column, collection.json_array()?));
        }
        let value = self.single_of(expr, &collection, focus)?;
        OutputColumn::of_value(column, &value, collection.item.kind().unwrap_or(Kind::Nothing))
    }
}

fn multiply(left: &[Branch], right: &[Branch]) -> Result<Vec<Branch>, Refused> {
    let too_much = || Refused::because("it has too many columns, joins or combinations of unionAll");
    if BRANCHES_MAX < left.len() * right.len() {
        return Err(too_much());
    }
    let product: Vec<_> = left.iter().flat_map(|a| right.iter().map(|b| a.and(b))).collect();
    let fits = |branch: &Branch| branch.columns.len() <= COLUMNS_MAX && branch.joins.len() <= JOINS_MAX;
    let size: usize = product.iter().map(Branch::size).sum();
    if product.iter().all(fits) && size <= SQL_BYTES_MAX { Ok(product) } else { Err(too_much()) }
}

/// A forEach over what cannot repeat needs no join.
fn for_one(collection: &Collection, join: Join, focus: &Focus) -> Result<(Branch, Focus), String> {
    let mut branch = Branch::default();
    let mut inner = focus.on(collection.item.clone());
    "0".clone_into(&mut inner.row_index);
    match (join, collection.item.kind()) {
        (_, None) => return Err("it can be of several types: say which with ofType()".to_owned()),
        (Join::Inner, Some(_)) => branch.conditions.push(collection.holds()),
        (Join::OrNull, Some(kind)) if !collection.conditions.is_empty() => {
            inner.item = match &collection.item {
                Item::Node(place, Kind::Complex(_)) => {
                    let doc = format!("CASE WHEN {} THEN {} END", collection.holds(), place.extract());
                    Item::Node(Place { doc: Doc::Sql(doc), path: "$".to_owned() }, kind)
                }
                _ => Item::Value(collection.first_value()?, kind),
            };
        }
        (Join::OrNull, Some(_)) => {}
    }
    Ok((branch, inner))
}

/// A join with `json_each` over `array`, and the focus on its elements.
fn joined(alias: usize, array: &str, kind: Kind, join: Join, focus: &Focus) -> (Branch, Focus) {
    let (word, row_index) = match join {
        Join::Inner => ("CROSS", format!("j{alias}.key")),
        Join::OrNull => ("LEFT", format!("COALESCE(j{alias}.key, 0)")),
    };
    let item = if kind == Kind::Nothing { Item::nothing() } else { Item::each(alias, kind) };
    let exists = item.exists();
    let branch = Branch {
        joins: vec![format!("{word} JOIN json_each({array}) AS j{alias} ON {exists}")],
        ..Branch::default()
    };
    let mut inner = focus.on(item);
    inner.row_index = row_index;
    (branch, inner)
}

/// Whether each step of the recursion is sure to go deeper into the JSON.
fn descends(path: &Expr) -> bool {
    steps_down(path).is_some_and(|steps| 0 < steps)
}

/// How many elements deep a path leads, `None` for what is not a path from where it starts.
fn steps_down(path: &Expr) -> Option<usize> {
    let base = |base: &Option<Box<Expr>>| base.as_deref().map_or(Some(0), steps_down);
    match path {
        Expr::This => Some(0),
        // A resource type's name would be the resource itself.
        Expr::Member(_, name) if elements::resource_type(name).is_some() => None,
        Expr::Member(from, _) => base(from).map(|steps| steps + 1),
        Expr::Call(from, name, _) => match name.as_str() {
            "extension" => base(from).map(|steps| steps + 1),
            "where" | "ofType" | "as" | "first" => base(from),
            _ => None,
        },
        Expr::Index(from, _) | Expr::Typed(from, TypeOperator::As, _) => steps_down(from),
        _ => None,
    }
}

fn note_kind(kinds: &mut Vec<Kind>, collection: &Collection) {
    let kind = collection.item.kind().unwrap_or(Kind::Nothing);
    if kind != Kind::Nothing && !kinds.contains(&kind) {
        kinds.push(kind);
    }
}

/// A term of the recursive query: the nodes of `collection`, each with a text to sort by.
///
/// The place of a node is its parent's, then the path's number, then the position in each
/// array on the way, all of fixed width: sorted as text, parents come before their children.
fn tree_term(collection: &Collection, number: usize, tree: Option<&str>) -> Result<Option<String>, String> {
    let Item::Node(place, Kind::Complex(_)) = &collection.item else {
        return match collection.item.kind() {
            Some(Kind::Nothing) => Ok(None),
            _ => Err("repeat is for elements that have elements of their own".to_owned()),
        };
    };
    let mut sort = format!("'{number:02}'");
    for source in &collection.sources {
        sort = format!("{sort} || printf('%08d', j{}.key)", source.alias);
    }
    let from = collection.clauses();
    let node = place.extract();
    Ok(Some(match (tree, from.strip_prefix(" FROM ")) {
        (None, _) => format!("SELECT {node}, {sort}{from}"),
        (Some(tree), Some(sources)) => {
            format!("SELECT {node}, {tree}.place || {sort} FROM {tree} CROSS JOIN {sources}")
        }
        (Some(tree), None) => format!("SELECT {node}, {tree}.place || {sort} FROM {tree}{from}"),
    }))
}
