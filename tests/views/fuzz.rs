//! Mangled ViewDefinitions: each is refused or compiled, and nothing panics; what is compiled
//! is evaluated over anything.

use healthex_sync::views::{Several, catalogue};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::evaluate::{compiled, rows_of};
use crate::support::resources::{examples, somewhere_inside};
use crate::support::shared;

const PIECES: &[&str] = &[
    "name",
    "given",
    "value",
    "code",
    "coding",
    "component",
    "extension",
    "item",
    "answer",
    "subject",
    "contact",
    ".",
    ".",
    "(",
    ")",
    "[0]",
    "[%n]",
    "where(",
    "first()",
    "exists()",
    "ofType(Quantity)",
    "ofType(dateTime)",
    "getReferenceKey(Patient)",
    "getResourceKey()",
    "join(',')",
    "count()",
    "not()",
    "lowBoundary()",
    "highBoundary()",
    "select(",
    "iif(",
    "all(",
    "$this",
    "%rowIndex",
    "%resource",
    "%x",
    "'text'",
    "'it''s",
    "1",
    "2.5",
    "-",
    "@2020-01",
    "@T10:00",
    "{}",
    " and ",
    " or ",
    " = ",
    " != ",
    " ~ ",
    " < ",
    " + ",
    " / ",
    " div ",
    " mod ",
    " & ",
    " is string",
    " as Quantity",
    " | ",
    "`",
    "\\u0000",
    "é",
    "resolve()",
    "matches('a')",
    "substring(1, 2)",
    "toInteger()",
    "length()",
    "round(2)",
    "abs()",
    ", ",
    "single()",
    "contained.ofType(Patient)",
];

/// Steps, mostly of elements there are: more of these expressions compile.
const STEPS: &[&str] = &[
    "name",
    "name.given",
    "name.family",
    "contact",
    "telecom",
    "value",
    "value.ofType(Quantity).value",
    "value.ofType(string)",
    "value.ofType(dateTime)",
    "effective.ofType(dateTime)",
    "birthDate",
    "active",
    "id",
    "code",
    "coding",
    "component",
    "item",
    "item.answer",
    "answer",
    "subject",
    "extension('x')",
    "extension",
    "first()",
    "exists()",
    "empty()",
    "not()",
    "count()",
    "where(use = 'official')",
    "where(code.exists())",
    "where($this.exists())",
    "code.text",
    "linkId",
    "[0]",
    "[2]",
    "join(', ')",
    "lowBoundary()",
    "highBoundary()",
    "length()",
    "upper()",
    "toString()",
    "toInteger()",
    "toDecimal()",
    "substring(1)",
    "abs()",
    "round(1)",
    "single()",
    "getReferenceKey()",
    "managingOrganization",
    "select(coding)",
    "all(true)",
    "contained",
    "ofType(Patient)",
    "meta.lastUpdated",
    "period.start",
    "is(string)",
    "hasValue()",
    "replace('a', 'b')",
    "last()",
    "skip(1)",
    "take(2)",
    "tail()",
    "distinct()",
    "children()",
    "descendants()",
    "ancestors()",
    "ancestors().linkId",
    "repeat(item)",
    "repeat(children())",
    "resolve()",
    "sum()",
    "min()",
    "max()",
    "avg()",
    "split(' ')",
    "matches('^[A-Z]')",
    "replaceMatches('a', '$0')",
    "decode('base64')",
    "encode('hex')",
    "toDate()",
    "toDateTime()",
    "toTime()",
    "toBoolean()",
    "convertsToInteger()",
    "coalesce(id, 'x')",
    "union(id)",
    "exclude(id)",
    "subsetOf(id)",
    "birthDate.extension('x')",
    "ceiling()",
    "power(2)",
    "allTrue()",
];

const OPERATORS: &[&str] = &[
    " = ",
    " != ",
    " ~ ",
    " < ",
    " >= ",
    " and ",
    " or ",
    " xor ",
    " implies ",
    " + ",
    " - ",
    " / ",
    " div ",
    " mod ",
    " & ",
    " | ",
    " in ",
    " contains ",
];

fn expression(random: &mut StdRng) -> String {
    if random.random_bool(0.3) {
        let pieces = random.random_range(1..9);
        return (0..pieces).map(|_| *PIECES.choose(random).unwrap()).collect();
    }
    let steps: Vec<_> = (0..random.random_range(1..4)).map(|_| *STEPS.choose(random).unwrap()).collect();
    let chain = steps.join(".").replace(".[", "[");
    match random.random_range(0..4) {
        0 => format!("{chain}{}{}", OPERATORS.choose(random).unwrap(), expression(random)),
        1 => format!("iif({}, {chain}, {{}})", expression(random)),
        _ => chain,
    }
}

fn seeded(name: &str) -> StdRng {
    let seed = rand::rng().random();
    eprintln!("{name}: seed {seed}");
    StdRng::seed_from_u64(seed)
}

/// Compiles a view; evaluates what compiles.
fn try_one(resources: &[String], definition: &Value) -> bool {
    let Ok(view) = compiled(definition) else {
        return false;
    };
    for resource in resources {
        let kept = rows_of(&view, resource, Several::KeepFirst);
        if let Err(error) = &kept {
            assert!(error.contains("more than"), "{error}\n{definition}");
        }
        // Strict fails over several values, and gives the same rows where it does not.
        match rows_of(&view, resource, Several::Refuse) {
            Ok(rows) => assert_eq!(kept, Ok(rows), "{definition}"),
            Err(error) => assert!(error.contains("several values") || error.contains("more than"), "{error}"),
        }
    }
    true
}

/// Of all types: what a view is given need not be of its own.
fn resources() -> Vec<String> {
    let all = [examples("r4-examples"), examples("us-core-7.0.0-examples")].concat();
    let some = all.iter().enumerate().filter(|(number, _)| number % 17 == 0);
    let some = some.map(|(_, resource)| resource.to_string());
    some.chain(["{}", "[]", "no json", "5"].map(str::to_owned)).collect()
}

#[test]
fn random_expressions_are_refused_or_run() {
    let mut random = seeded("expressions");
    let resources = resources();
    let mut compiled = 0;
    for _ in 0..10_000 {
        let path = expression(&mut random);
        let resource = ["Patient", "Observation", "QuestionnaireResponse"].choose(&mut random).unwrap();
        let column = json!([{"name": "c", "path": path}]);
        let select = match random.random_range(0..5) {
            0 => json!({"forEach": path, "column": [{"name": "c", "path": "%rowIndex"}]}),
            1 => json!({"forEachOrNull": path, "column": [{"name": "c", "path": "%rowIndex"}]}),
            2 => json!({"repeat": [path], "column": [{"name": "c", "path": "%rowIndex"}]}),
            3 => json!({"column": [{"name": "c", "path": path, "collection": true}]}),
            _ => json!({"column": column}),
        };
        let view =
            json!({"resource": resource, "select": [select], "constant": [{"name": "n", "valueInteger": 1}]});
        compiled += u32::from(try_one(&resources, &view));
    }
    eprintln!("{compiled} of 10000 compiled");
    assert!(500 < compiled);
}

#[test]
fn mangled_views_are_refused_or_run() {
    let mut random = seeded("views");
    let mut views: Vec<Value> =
        catalogue().iter().map(|view| serde_json::from_str(view.json).unwrap()).collect();
    if let Some(folder) = shared("sql-on-fhir-tests") {
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read(file.unwrap().path()).unwrap();
            let Ok(suite) = serde_json::from_slice::<Value>(&text) else {
                continue;
            };
            views.extend(suite["tests"].as_array().unwrap().iter().map(|test| test["view"].clone()));
        }
    }
    let resources = resources();
    for _ in 0..1_500 {
        let mut view = views.choose(&mut random).unwrap().clone();
        for _ in 0..random.random_range(1..3) {
            mangle(&mut view, &mut random);
        }
        try_one(&resources, &view);
    }
}

#[test]
fn what_would_grow_without_end_is_refused() {
    let resources = resources();
    let column = json!([{"name": "c", "path": "id"}]);
    let mut deep = json!({"column": column});
    for _ in 0..100 {
        deep = json!({"select": [deep]});
    }
    let many = json!({"unionAll": vec![json!({"column": column}); 500]});
    let long = "name.where(given.where($this.exists()).exists()).".repeat(100) + "family";
    let nested = "name.where(".repeat(25) + "true" + &").exists()".repeat(25);
    let parentheses = "(".repeat(55) + "active" + &")".repeat(55);
    let nots = "active".to_owned() + &".not()".repeat(55);
    let iifs = "iif(active, ".repeat(40) + "active" + &", {})".repeat(40);
    let firsts = "contained.first().".repeat(30) + "id";
    for select in [
        deep,
        many,
        json!({"column": [{"name": "c", "path": long}]}),
        json!({"column": [{"name": "c", "path": nested}]}),
        json!({"column": [{"name": "c", "path": firsts}]}),
        json!({"column": [{"name": "c", "path": parentheses}]}),
        json!({"column": [{"name": "c", "path": nots}]}),
        json!({"column": [{"name": "c", "path": iifs}]}),
        json!({"column": [{"name": "c", "path": "active or ".repeat(40) + "active"}]}),
        json!({"column": [{"name": "c", "path": "extension.where(url = 'a').first().".repeat(9) + "url"}]}),
        json!({"repeat": ["extension"], "select": [{"repeat": ["extension", "extension.extension"], "column": column}]}),
    ] {
        try_one(&resources, &json!({"resource": "Patient", "select": [select]}));
    }
}

/// Cuts, doubles or garbles one text or node.
fn mangle(value: &mut Value, random: &mut StdRng) {
    let value = somewhere_inside(value, 0.9, random);
    *value = match value.take() {
        Value::String(text) => {
            let letters: Vec<char> = text.chars().collect();
            let cut = random.random_range(0..=letters.len());
            let (before, after) = letters.split_at(cut);
            let piece = PIECES.choose(random).unwrap().chars();
            let after = after.iter().skip(random.random_range(0..3));
            json!(before.iter().copied().chain(piece).chain(after.copied()).collect::<String>())
        }
        Value::Array(elements) => json!([elements.clone(), elements].concat()),
        other => [Value::Null, json!([other]), json!("id"), json!(1)].choose(random).unwrap().clone(),
    };
}
