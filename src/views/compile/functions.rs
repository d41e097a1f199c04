//! The functions of FHIRPath, and the two of SQL on FHIR, by name.
//!
//! Absent on purpose, and refused by name: what needs a server (`resolve()`, `memberOf()`),
//! what SQLite has no words for (`matches()`), and what depends on the day it is asked.

use super::eval::{Compiler, Focus};
use super::node::{Collection, Item, Place, quoted};
use super::{reference, temporal};
use crate::views::elements;
use crate::views::elements::Kind;
use crate::views::fhirpath::{Expr, TypeOperator};

const SUPPORTED: &str = "where, select, exists, empty, all, not, first, single, count, join, iif, extension, ofType, as, is, \
     hasValue, getResourceKey, getReferenceKey, lowBoundary, highBoundary, startsWith, endsWith, contains, \
     indexOf, length, lower, upper, trim, replace, substring, toString, toInteger, toDecimal, abs, round";

/// A function that is known and not to be had in SQL, and why.
fn never(name: &str) -> Option<&'static str> {
    match name {
        "resolve" => Some("it would follow a reference to another resource: join the tables instead"),
        "memberOf" | "subsumes" | "subsumedBy" => {
            Some("it needs a terminology server: list the codes instead")
        }
        "matches" | "matchesFull" | "replaceMatches" => {
            Some("SQLite has no regular expressions: use startsWith() and its like")
        }
        "now" | "today" | "timeOfDay" => Some("a stored table cannot depend on the day it is asked"),
        "conformsTo" | "htmlChecks" => Some("it needs a validator"),
        _ => None,
    }
}

impl Compiler<'_> {
    pub(super) fn call(
        &mut self,
        base: Option<&Expr>,
        name: &str,
        arguments: &[Expr],
        focus: &Focus,
    ) -> Result<Collection, String> {
        if let Some(why) = never(name) {
            return Err(format!("{name}() is not supported: {why}"));
        }
        let this = &Expr::This;
        let subject = base.unwrap_or(this);
        match (name, arguments) {
            ("where", [criterion]) => self.filtered(base, criterion, focus),
            ("select", [projection]) => {
                let collection = self.base(base, focus)?;
                let inner = self.eval(projection, &focus.on(collection.item.clone()))?;
                Ok(collection.then(inner))
            }
            ("extension", [url]) => self.extension(base, url, focus),
            ("ofType" | "as", [type_name]) => self.typed(subject, TypeOperator::As, type_name, focus),
            ("is", [type_name]) => self.typed(subject, TypeOperator::Is, type_name, focus),
            ("getReferenceKey", [] | [_]) => self.reference_key(base, arguments.first(), focus),
            ("getResourceKey", []) => resource_key(&self.base(base, focus)?.item),
            _ => self.whole(|this| this.whole_call(subject, name, arguments, focus)),
        }
    }

    /// The functions that look at a collection as a whole, or at one value.
    fn whole_call(
        &mut self,
        subject: &Expr,
        name: &str,
        arguments: &[Expr],
        focus: &Focus,
    ) -> Result<Collection, String> {
        let boolean = |sql: String| Ok(Collection::value(sql, Kind::Boolean));
        match (name, arguments) {
            ("exists", []) => boolean(self.exists(subject, focus)?),
            ("exists", [criterion]) => {
                let filter =
                    Expr::Call(Some(Box::new(subject.clone())), "where".to_owned(), vec![criterion.clone()]);
                boolean(self.exists(&filter, focus)?)
            }
            ("empty", []) => boolean(format!("(NOT {})", self.exists(subject, focus)?)),
            ("hasValue", []) => boolean(self.exists(subject, focus)?),
            ("all", [criterion]) => {
                let mut collection = self.eval(subject, focus)?;
                let holds = self.criterion(criterion, &focus.on(collection.item.clone()))?;
                collection.conditions.push(format!("({holds}) IS NOT TRUE"));
                boolean(format!("(NOT {})", collection.exists()))
            }
            ("not", []) => boolean(format!("(NOT {})", self.condition(subject, focus)?)),
            ("first", []) => {
                let collection = self.eval(subject, focus)?;
                self.nth(subject, collection, 0, focus)
            }
            ("single", []) => {
                let collection = self.eval(subject, focus)?;
                let kind = collection.item.kind().unwrap_or(Kind::Nothing);
                Ok(Collection::value(self.single_of(subject, &collection, focus)?, kind))
            }
            ("count", []) => {
                let from = self.eval(subject, focus)?.clauses();
                Ok(Collection::value(format!("(SELECT count(*){from})"), Kind::Integer))
            }
            ("join", [] | [_]) => self.join(subject, arguments.first(), focus),
            ("iif", [condition, rest @ ..]) if (1..=2).contains(&rest.len()) => {
                self.iif(condition, rest, focus)
            }
            ("lowBoundary", []) => self.boundary(subject, temporal::Side::Low, focus),
            ("highBoundary", []) => self.boundary(subject, temporal::Side::High, focus),
            _ => self.scalar_call(subject, name, arguments, focus),
        }
    }

    fn filtered(
        &mut self,
        base: Option<&Expr>,
        criterion: &Expr,
        focus: &Focus,
    ) -> Result<Collection, String> {
        let mut collection = self.base(base, focus)?;
        let condition = self.criterion(criterion, &focus.on(collection.item.clone()))?;
        collection.conditions.push(condition);
        Ok(collection)
    }

    fn extension(&mut self, base: Option<&Expr>, url: &Expr, focus: &Focus) -> Result<Collection, String> {
        let (url, kind) = self.whole(|this| this.single(url, focus))?;
        if kind != Kind::String {
            return Err("extension() takes the extension's url as a text".to_owned());
        }
        let base = self.base(base, focus)?;
        let mut extensions = self.step(&base.item, "extension")?;
        let written = self.step(&extensions.item, "url")?.first_value()?;
        extensions.conditions.push(format!("{written} = {url}"));
        Ok(base.then(extensions))
    }

    /// `operand is Type`, `operand as Type`, `operand.ofType(Type)`.
    pub(super) fn typed(
        &mut self,
        operand: &Expr,
        operator: TypeOperator,
        type_name: &Expr,
        focus: &Focus,
    ) -> Result<Collection, String> {
        let name = type_name_of(type_name)?;
        let collection = self.eval(operand, focus)?;
        let typed = match &collection.item {
            Item::Choice(place, owner, members) => {
                let group = group_of(owner, members);
                let Some(element) = elements::chosen(owner, &group, &name) else {
                    return Err(format!("{owner}.{group}[x] cannot be a {name} in FHIR R4"));
                };
                Collection::one(Item::Node(place.step(element.name), element.kind))
            }
            Item::Node(place, Kind::Complex("Resource")) => contained(place, &name)?,
            item if item.kind().is_some_and(|kind| is_of(kind, &name)) => Collection::one(item.clone()),
            _ => Collection::nothing(),
        };
        let typed = collection.then(typed);
        match operator {
            TypeOperator::As => Ok(typed),
            TypeOperator::Is => Ok(Collection::value(typed.exists(), Kind::Boolean)),
        }
    }

    fn reference_key(
        &mut self,
        base: Option<&Expr>,
        type_name: Option<&Expr>,
        focus: &Focus,
    ) -> Result<Collection, String> {
        let wanted = type_name.map(type_name_of).transpose()?;
        if let Some(name) = wanted.as_deref().filter(|name| elements::resource_type(name).is_none()) {
            return Err(format!("getReferenceKey(): {name} is not a resource type of FHIR R4"));
        }
        let base = self.base(base, focus)?;
        let Item::Node(place, Kind::Complex("Reference")) = &base.item else {
            if base.item.kind() == Some(Kind::Nothing) {
                return Ok(Collection::nothing());
            }
            return Err("getReferenceKey() is for references".to_owned());
        };
        let key = Collection::value(reference::key(place, wanted.as_deref())?, Kind::String);
        Ok(base.then(key))
    }

    /// 1 or 0. The first of each repeating element mostly settles it.
    fn exists(&mut self, subject: &Expr, focus: &Focus) -> Result<String, String> {
        let collection = self.eval(subject, focus)?;
        if !collection.is_many() {
            return Ok(collection.exists());
        }
        let (head, more) = self.eval_head(subject, focus)?;
        let (head, all) = (head.exists(), collection.exists());
        Ok(format!("CASE WHEN {head} THEN 1 WHEN {more} THEN {all} ELSE 0 END"))
    }

    fn join(
        &mut self,
        subject: &Expr,
        separator: Option<&Expr>,
        focus: &Focus,
    ) -> Result<Collection, String> {
        let separator = match separator {
            Some(separator) => self.single(separator, focus)?.0,
            None => quoted(""),
        };
        let collection = self.eval(subject, focus)?;
        let value = collection.item.value()?;
        let joined = collection.aggregate(&format!("group_concat(v, {separator})"), &value);
        Ok(Collection::value(joined, Kind::String))
    }

    fn iif(&mut self, condition: &Expr, branches: &[Expr], focus: &Focus) -> Result<Collection, String> {
        let condition = self.condition(condition, focus)?;
        let mut kind = Kind::Nothing;
        let mut values = Vec::new();
        for branch in branches {
            let (value, found) = self.single(branch, focus)?;
            values.push(value);
            kind = match (kind, found) {
                (Kind::Nothing, found) => found,
                (kind, Kind::Nothing) => kind,
                (kind, found) if kind == found => kind,
                (kind, found) if kind.is_number() && found.is_number() => Kind::Decimal,
                (kind, found) => {
                    return Err(format!(
                        "iif() gives a {} or a {}: make them one type",
                        kind.name(),
                        found.name()
                    ));
                }
            };
        }
        let otherwise = values.get(1).map_or("NULL", String::as_str);
        Ok(Collection::value(format!("CASE WHEN {condition} THEN {} ELSE {otherwise} END", values[0]), kind))
    }

    fn boundary(
        &mut self,
        subject: &Expr,
        side: temporal::Side,
        focus: &Focus,
    ) -> Result<Collection, String> {
        let collection = self.eval(subject, focus)?;
        let value = self.single_of(subject, &collection, focus)?;
        let sql = match (collection.item.kind().unwrap_or(Kind::Nothing), &collection.item) {
            (Kind::Decimal, Item::Node(place, _)) if !collection.is_many() => {
                temporal::decimal_boundary(&value, &digits_of(place), side)
            }
            (Kind::Decimal, _) => temporal::decimal_boundary(&value, &format!("CAST({value} AS TEXT)"), side),
            (Kind::Date, _) => temporal::date_boundary(&value, side),
            (Kind::DateTime | Kind::Instant, _) => temporal::date_time_boundary(&value, side),
            (Kind::Time, _) => temporal::time_boundary(&value, side),
            (Kind::Nothing, _) => "NULL".to_owned(),
            (kind, _) => return Err(format!("a {} has no boundaries", kind.name())),
        };
        Ok(Collection::value(sql, collection.item.kind().unwrap_or(Kind::Nothing)))
    }

    /// Functions of one value that SQLite has under another name.
    fn scalar_call(
        &mut self,
        subject: &Expr,
        name: &str,
        arguments: &[Expr],
        focus: &Focus,
    ) -> Result<Collection, String> {
        let (value, kind) = self.single(subject, focus)?;
        let mut taken = Vec::new();
        for argument in arguments {
            taken.push(self.single(argument, focus)?.0);
        }
        let found = match (name, taken.as_slice()) {
            ("startsWith", [prefix]) => (format!("(instr({value}, {prefix}) = 1)"), Kind::Boolean),
            ("endsWith", [end]) => {
                (format!("({end} = '' OR substr({value}, -length({end})) = {end})"), Kind::Boolean)
            }
            ("contains", [part]) => (format!("(instr({value}, {part}) > 0)"), Kind::Boolean),
            ("indexOf", [part]) => (format!("(instr({value}, {part}) - 1)"), Kind::Integer),
            ("length", []) => (format!("length({value})"), Kind::Integer),
            ("lower", []) => (format!("lower({value})"), Kind::String),
            ("upper", []) => (format!("upper({value})"), Kind::String),
            ("trim", []) => (format!("trim({value}, ' ' || char(9, 10, 13))"), Kind::String),
            ("replace", [part, with]) => (format!("replace({value}, {part}, {with})"), Kind::String),
            ("substring", [start]) => (substring(&value, start, None), Kind::String),
            ("substring", [start, length]) => (substring(&value, start, Some(length)), Kind::String),
            ("toString", []) if kind == Kind::Boolean => {
                (format!("CASE {value} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"), Kind::String)
            }
            ("toString", []) => (format!("CAST({value} AS TEXT)"), Kind::String),
            ("toInteger", []) => (whole_number(&value), Kind::Integer),
            ("toDecimal", []) => (any_number(&value), Kind::Decimal),
            // Of the smallest integer, `abs` alone would be an error.
            ("abs", []) if kind.is_number() => (format!("abs(max({value}, -9223372036854775807))"), kind),
            ("round", []) if kind.is_number() => (format!("round({value})"), Kind::Decimal),
            ("round", [places]) if kind.is_number() => (format!("round({value}, {places})"), Kind::Decimal),
            _ => {
                return Err(format!(
                    "{name}() with {} argument(s) on this is not supported; there are: {SUPPORTED}",
                    taken.len()
                ));
            }
        };
        Ok(Collection::value(found.0, found.1))
    }
}

fn substring(value: &str, start: &str, length: Option<&String>) -> String {
    let length = length.map_or(String::new(), |length| format!(", max({length}, 0)"));
    format!(
        "CASE WHEN {start} >= 0 AND {start} < length({value}) THEN substr({value}, {start} + 1{length}) END"
    )
}

fn whole_number(value: &str) -> String {
    format!(
        "CASE WHEN CAST(CAST({value} AS INTEGER) AS TEXT) = CAST({value} AS TEXT) THEN CAST({value} AS INTEGER) END"
    )
}

fn any_number(value: &str) -> String {
    format!(
        "CASE WHEN {value} GLOB '*[0-9]*' AND {value} NOT GLOB '*[^-+.0-9]*' THEN CAST({value} AS REAL) \
         WHEN typeof({value}) IN ('integer', 'real') THEN CAST({value} AS REAL) END"
    )
}

/// A number's digits as they stand in the JSON: a list of places is the one form that keeps them.
fn digits_of(place: &Place) -> String {
    let list = format!("json_extract({}, '{path}', '{path}')", place.doc.sql(), path = place.path);
    format!("(SELECT substr(list, 2, instr(list, ',') - 2) FROM (SELECT {list} AS list))")
}

fn resource_key(item: &Item) -> Result<Collection, String> {
    match item {
        Item::Node(place, Kind::Complex(name)) if elements::resource_type(name).is_some() => {
            Ok(Collection::one(Item::Node(place.step("id"), Kind::String)))
        }
        _ => Err("getResourceKey() is for a resource".to_owned()),
    }
}

fn type_name_of(expr: &Expr) -> Result<String, String> {
    match expr {
        Expr::Member(None, name) => Ok(name.clone()),
        Expr::Member(Some(space), name) if **space == Expr::Member(None, "FHIR".to_owned()) => {
            Ok(name.clone())
        }
        Expr::Member(Some(space), name) if **space == Expr::Member(None, "System".to_owned()) => {
            let mut letters = name.chars();
            let first = letters.next().map(|letter| letter.to_ascii_lowercase());
            Ok(first.into_iter().chain(letters).collect())
        }
        _ => Err("a type's name is expected, such as Quantity or dateTime".to_owned()),
    }
}

fn group_of(owner: &str, members: &[elements::Element]) -> String {
    let Some(member) = members.first() else {
        return String::new();
    };
    let name = member.name;
    // The group is the longest beginning of a member's name that is a choice.
    let ends = (1..=name.len()).rev().filter(|end| !elements::choice(owner, &name[..*end]).is_empty());
    ends.map(|end| name[..end].to_owned()).next().unwrap_or_default()
}

fn contained(place: &Place, name: &str) -> Result<Collection, String> {
    let Some(resource_type) = elements::resource_type(name) else {
        return Err(format!("{name} is not a resource type of FHIR R4"));
    };
    let written = Item::Node(place.step("resourceType"), Kind::String).value()?;
    Ok(Collection {
        sources: Vec::new(),
        conditions: vec![format!("{written} = {}", quoted(resource_type))],
        item: Item::Node(place.clone(), Kind::Complex(resource_type)),
    })
}

fn is_of(kind: Kind, name: &str) -> bool {
    let strings =
        ["string", "code", "id", "uri", "url", "uuid", "oid", "canonical", "markdown", "base64Binary"];
    let integers = ["integer", "positiveInt", "unsignedInt"];
    match kind {
        Kind::String => strings.contains(&name),
        Kind::Integer => integers.contains(&name),
        _ => kind.name() == name,
    }
}
