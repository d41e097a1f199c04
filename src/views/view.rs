//! A ViewDefinition compiled once: its tree of selects with programs in place of expressions.
//!
//! Promise: whatever can be known to be wrong without a resource is refused here, with its column
//! and expression. Absent on purpose: any table; a row is what `rows` gives.

use std::collections::BTreeSet;

use super::build::{Builder, Type, is_plain_array};
use super::definition::{ColumnDefinition, Filter, Select, ViewDefinition};
use super::elements::Kind;
use super::fhirpath::{Expr, TypeOperator};
use super::program::Node;
use super::refused::Refused;
use super::{Column, Declared, Index, cell, elements, fhirpath};

const COLUMNS_MAX: usize = 500;
/// Ours: `true` for an index on the column, `person` for one on it behind `person_id`.
const INDEX_TAG: &str = "healthex-sync/index";
/// Ours: where a value is from, in fewer words than its expression.
const PATH_TAG: &str = "healthex-sync/path";
/// What joins look for, together with `person_id`.
const JOINED_BY: &str = "id";
/// What every row of a table begins with, so no column of a view may be called that.
const OWN_COLUMNS: [&str; 2] = ["person_id", "key"];
/// Where the types' own `StructureDefinition`s are.
const TYPE_URL: &str = "http://hl7.org/fhir/StructureDefinition/";

/// A compiled view.
#[derive(Debug)]
pub struct View {
    /// Its own, where it has one.
    pub name: Option<String>,
    pub description: Option<String>,
    pub resource_type: &'static str,
    pub columns: Vec<Column>,
    /// What takes the first of several values, in words.
    pub warnings: Vec<String>,
    /// Asked again tomorrow, it may give other rows of the same resources.
    pub depends_on_time: bool,
    pub(super) filters: Vec<FilterProgram>,
    pub(super) selects: Vec<SelectProgram>,
}

#[derive(Debug)]
pub(super) struct FilterProgram {
    pub(super) path: String,
    pub(super) node: Node,
}

#[derive(Debug)]
pub(super) struct SelectProgram {
    pub(super) over: Over,
    pub(super) columns: Vec<ColumnProgram>,
    pub(super) nested: Vec<SelectProgram>,
    pub(super) union: Vec<SelectProgram>,
}

/// What a select gives a row for.
#[derive(Debug)]
pub(super) enum Over {
    Once,
    Each(EachProgram),
    EachOrNull(EachProgram),
    Repeat(Vec<Node>),
}

#[derive(Debug)]
pub(super) struct EachProgram {
    pub(super) node: Node,
    /// `%rowIndex` is the place in the array, whatever else is there.
    pub(super) is_plain_array: bool,
}

#[derive(Debug)]
pub(super) struct ColumnProgram {
    pub(super) path: String,
    pub(super) node: Node,
    pub(super) declared: Declared,
    pub(super) is_collection: bool,
    pub(super) is_many: bool,
}

impl View {
    /// Compiles a view, or says which column and expression cannot be.
    pub fn compile(view: &ViewDefinition) -> Result<Self, Refused> {
        let named = view.resource.strip_prefix(TYPE_URL).unwrap_or(&view.resource);
        let Some(resource_type) = elements::resource_type(named) else {
            return Err(Refused::because(format!("{:?} is not a resource type of FHIR R4", view.resource)));
        };
        let mut compiler = Compiler {
            builder: Builder::new(resource_type, &view.constants),
            warnings: Vec::new(),
            within: Vec::new(),
        };
        let this = Type::Known(Kind::Complex(resource_type));
        let filters =
            view.filters.iter().map(|filter| compiler.filter(filter, &this)).collect::<Result<_, _>>()?;
        let mut columns = Vec::new();
        let mut selects = Vec::new();
        for select in &view.select {
            let (program, gives) = compiler.select(select, &this)?;
            selects.push(program);
            columns.extend(gives);
        }
        check_columns(&columns)?;
        let depends_on_time = compiler.builder.depends_on_time;
        let mut warnings = compiler.warnings;
        warnings.dedup();
        Ok(Self {
            name: view.name.clone(),
            description: view.description.clone(),
            resource_type,
            columns,
            warnings,
            depends_on_time,
            filters,
            selects,
        })
    }
}

struct Compiler<'a> {
    builder: Builder<'a>,
    warnings: Vec<String>,
    /// What the selects around the one at hand iterate over.
    within: Vec<String>,
}

impl Compiler<'_> {
    /// Takes what the builder noted of the expression at hand.
    fn take_notes(&mut self, place: &str) {
        let notes = std::mem::take(&mut self.builder.notes);
        self.warnings.extend(notes.into_iter().map(|note| format!("{place} {note}")));
    }

    fn filter(&mut self, filter: &Filter, this: &Type) -> Result<FilterProgram, Refused> {
        let path = filter.path.clone();
        let refused = |why: String| Refused::because(format!("where: {why}")).in_expression(&path);
        let expr = fhirpath::parse(&path).map_err(refused)?;
        let node = self.builder.criterion(&expr, this).map_err(refused)?;
        self.take_notes(&format!("where `{path}`"));
        Ok(FilterProgram { path, node })
    }

    /// A select's program, and the columns it gives.
    fn select(&mut self, select: &Select, this: &Type) -> Result<(SelectProgram, Vec<Column>), Refused> {
        let (over, inner) = self.over(select, this)?;
        let depth = self.within.len();
        self.within.extend(select.for_each.iter().chain(&select.for_each_or_null).cloned());
        self.within
            .extend((!select.repeat.is_empty()).then(|| format!("repeat({})", select.repeat.join(" | "))));
        let (mut programs, mut gives) = (Vec::new(), Vec::new());
        for definition in &select.column {
            let (program, column) = self.column(definition, &inner)?;
            programs.push(program);
            gives.push(column);
        }
        let mut nested = Vec::new();
        for select in &select.nested {
            let (program, columns) = self.select(select, &inner)?;
            nested.push(program);
            gives.extend(columns);
        }
        let (mut union, mut members) = (Vec::new(), Vec::new());
        for member in &select.union_all {
            let (program, columns) = self.select(member, &inner)?;
            union.push(program);
            members.push(columns);
        }
        self.within.truncate(depth);
        gives.extend(united(members)?);
        if COLUMNS_MAX < gives.len() {
            return Err(Refused::because(format!("it has more than {COLUMNS_MAX} columns")));
        }
        Ok((SelectProgram { over, columns: programs, nested, union }, gives))
    }

    fn over(&mut self, select: &Select, this: &Type) -> Result<(Over, Type), Refused> {
        let at = |expression: &str| {
            let expression = expression.to_owned();
            move |why: String| Refused::because(why).in_expression(&expression)
        };
        if let Some(path) = &select.for_each {
            let (each, gives) = self.each(path, this).map_err(at(path))?;
            return Ok((Over::Each(each), gives));
        }
        if let Some(path) = &select.for_each_or_null {
            let (each, gives) = self.each(path, this).map_err(at(path))?;
            return Ok((Over::EachOrNull(each), gives));
        }
        if select.repeat.is_empty() {
            return Ok((Over::Once, this.clone()));
        }
        let (nodes, gives) = self.repeat(&select.repeat, this).map_err(at(&select.repeat.join(", ")))?;
        Ok((Over::Repeat(nodes), gives))
    }

    fn each(&mut self, path: &str, this: &Type) -> Result<(EachProgram, Type), String> {
        let built = self.builder.build(&fhirpath::parse(path)?, this)?;
        self.take_notes(&format!("forEach `{path}`"));
        let is_plain_array = matches!(&built.node, Node::Step(step) if is_plain_array(step));
        Ok((EachProgram { node: built.node, is_plain_array }, built.gives))
    }

    /// The nodes the paths lead to, and from those again. They are built for elements of any
    /// type: what they lead to need not be what they start from.
    fn repeat(&mut self, paths: &[String], this: &Type) -> Result<(Vec<Node>, Type), String> {
        let exprs = paths.iter().map(|path| fhirpath::parse(path)).collect::<Result<Vec<_>, _>>()?;
        if !exprs.iter().all(descends) {
            return Err(
                "repeat needs paths of elements below where they start; others would never end".to_owned()
            );
        }
        self.builder.is_lenient = true;
        let gives = self.builder.reached(&exprs.iter().collect::<Vec<_>>(), this);
        self.builder.is_lenient = false;
        let gives = gives?;
        match &gives {
            Type::Known(Kind::Nothing) => {
                self.warnings.push("repeat: no such element here, so there are no rows".to_owned());
            }
            Type::Known(Kind::Complex(_)) | Type::Any | Type::Choice(..) => {}
            Type::Known(_) => return Err("repeat is for elements that have elements of their own".to_owned()),
        }
        let nodes = exprs.iter().map(|expr| Ok(self.builder.build(expr, &Type::Any)?.node));
        let nodes = nodes.collect::<Result<_, String>>()?;
        self.builder.notes.clear();
        Ok((nodes, gives))
    }

    /// The path from the resource to a column's value.
    fn path_of(&self, definition: &ColumnDefinition) -> String {
        let is_plain = definition.path.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
        match self.within.join(".") {
            around if around.is_empty() => definition.path.clone(),
            around if is_plain => format!("{around}.{}", definition.path),
            around => format!("{around}.select({})", definition.path),
        }
    }

    fn column(
        &mut self,
        definition: &ColumnDefinition,
        this: &Type,
    ) -> Result<(ColumnProgram, Column), Refused> {
        let refused =
            |why: String| Refused::because(why).in_expression(&definition.path).in_column(&definition.name);
        let expr = fhirpath::parse(&definition.path).map_err(refused)?;
        let built = self.builder.build(&expr, this).map_err(refused)?;
        let (kind, is_collection) = (built.gives.kind(), definition.collection);
        let declared =
            if is_collection { Declared::Text } else { cell::declared(definition, kind).map_err(refused)? };
        if !is_collection && built.is_many {
            self.builder.notes.push("can have several values: the first is taken".to_owned());
        }
        if let (Type::Choice(..), false) = (&built.gives, is_collection) {
            let says = "can be of several types, and only a single value is kept: say which with ofType()";
            self.builder.notes.push(says.to_owned());
        }
        self.take_notes(&format!("column `{}`: `{}`", definition.name, definition.path));
        let column = Column {
            name: definition.name.clone(),
            declared,
            boolean: !is_collection && cell::is_boolean(definition, declared, kind),
            collection: is_collection,
            index: match definition.tag(INDEX_TAG) {
                Some("true") => Index::Single,
                Some("person") => Index::OfPerson,
                _ if definition.name == JOINED_BY => Index::OfPerson,
                _ => Index::None,
            },
            description: definition.description.clone(),
            path: definition.tag(PATH_TAG).map_or_else(|| self.path_of(definition), str::to_owned),
        };
        let path = definition.path.clone();
        let program =
            ColumnProgram { path, node: built.node, declared, is_collection, is_many: built.is_many };
        Ok((program, column))
    }
}

/// The columns of a unionAll, which all its members must have.
fn united(members: Vec<Vec<Column>>) -> Result<Vec<Column>, Refused> {
    let names = |columns: &[Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    let mut members = members.into_iter();
    let first = members.next().unwrap_or_default();
    for other in members {
        if names(&other) != names(&first) {
            return Err(Refused::because(format!(
                "the members of a unionAll must have the same columns in the same order: [{}] is not [{}]",
                names(&other).join(", "),
                names(&first).join(", "),
            )));
        }
        let differs = |(a, b): &(&Column, &Column)| a.declared != b.declared || a.collection != b.collection;
        if let Some((one, other)) = first.iter().zip(&other).find(differs) {
            return Err(Refused::because(format!(
                "the members of its unionAll give it different types, {} and {}",
                one.declared.sql(),
                other.declared.sql(),
            ))
            .in_column(&one.name));
        }
    }
    Ok(first)
}

fn check_columns(columns: &[Column]) -> Result<(), Refused> {
    let mut seen: BTreeSet<String> = OWN_COLUMNS.iter().map(|name| (*name).to_owned()).collect();
    if columns.is_empty() {
        return Err(Refused::because("it has no columns"));
    }
    // SQLite's names do not differ by case.
    match columns.iter().find(|column| !seen.insert(column.name.to_ascii_lowercase())) {
        None => Ok(()),
        Some(twice) if OWN_COLUMNS.contains(&twice.name.to_ascii_lowercase().as_str()) => {
            Err(Refused::because("every row has a column of that name already").in_column(&twice.name))
        }
        Some(twice) => Err(Refused::because("there are two columns of that name").in_column(&twice.name)),
    }
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
