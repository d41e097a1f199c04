//! What expressions give, one line each: through the compiler and SQLite, on one patient.

use healthex_sync::views::{Target, ViewDefinition, compile};
use rusqlite::types::Value as SqlValue;
use serde_json::{Value, json};

use crate::store::Store;
use crate::support::shared;

fn patient() -> Value {
    json!({
        "resourceType": "Patient", "id": "p1", "active": true, "gender": "male", "birthDate": "1970-06",
        "meta": {"lastUpdated": "2020-01-01T10:00:00+02:00"},
        "name": [
            {"use": "official", "family": "Muster", "given": ["Max", "Maria"]},
            {"use": "nickname", "given": ["Mäxchen"]},
        ],
        "telecom": [{"system": "phone", "value": "1", "rank": 2}, {"system": "email", "value": "a@b"}],
        "multipleBirthInteger": 3,
        "maritalStatus": {"text": "it's complicated"},
        "contained": [{"resourceType": "Organization", "id": "o", "name": "Org"}, {"resourceType": "Patient", "id": "c"}],
        "extension": [{"url": "x", "valueDecimal": 1.50}, {"url": "y", "valueCode": "c"}],
    })
}

fn run(path: &str, target: Target) -> Result<SqlValue, String> {
    let view = json!({
        "resource": "Patient",
        "select": [{"column": [{"name": "c", "path": path}]}],
        "constant": [{"name": "day", "valueDate": "1970-07-01"}, {"name": "max", "valueString": "Max"}],
    });
    let view = ViewDefinition::parse(&view.to_string()).unwrap();
    let sql = compile(&view, target).map_err(|refused| refused.to_string())?;
    let store = Store::new();
    store.add(0, &patient());
    let rows = store.rows(&sql).map_err(|error| error.to_string())?;
    assert_eq!(rows.len(), 1, "{path}");
    Ok(rows[0][0].clone())
}

fn check(cases: &[(&str, Value)]) {
    for (path, expected) in cases {
        let expected = match expected {
            Value::Null => SqlValue::Null,
            Value::Bool(value) => SqlValue::Integer(i64::from(*value)),
            Value::Number(number) if number.is_i64() => SqlValue::Integer(number.as_i64().unwrap()),
            Value::Number(number) => SqlValue::Real(number.as_f64().unwrap()),
            text => SqlValue::Text(text.as_str().unwrap().to_owned()),
        };
        assert_eq!(run(path, Target::Warehouse), Ok(expected), "{path}");
    }
}

#[test]
fn paths_and_collections() {
    check(&[
        ("Patient.gender", json!("male")),
        ("name.given.first()", json!("Max")),
        ("name.given", json!("Max")),
        ("name[1].given[0]", json!("Mäxchen")),
        ("name.given[2]", json!("Mäxchen")),
        ("name.given[3]", Value::Null),
        ("name.where(use = 'nickname').given.first()", json!("Mäxchen")),
        ("name.where(use = 'nickname').first().given.first()", json!("Mäxchen")),
        ("name.where(use = 'none').given.first()", Value::Null),
        ("name.given.count()", json!(3)),
        ("name.given.where($this = %max).count()", json!(1)),
        ("name.given.join('|')", json!("Max|Maria|Mäxchen")),
        ("name.select(given.first()).join(',')", json!("Max,Mäxchen")),
        ("telecom.where(rank.exists()).system", json!("phone")),
        ("telecom.exists(system = 'email')", json!(true)),
        ("telecom.where(system = 'fax').exists()", json!(false)),
        ("telecom.all(value.exists())", json!(true)),
        ("telecom.all(rank.exists())", json!(false)),
        ("multipleBirth.ofType(integer)", json!(3)),
        ("multipleBirth is integer", json!(true)),
        ("(multipleBirth as boolean).exists()", json!(false)),
        ("multipleBirth.exists() and deceased.empty()", json!(true)),
        ("maritalStatus.text", json!("it's complicated")),
        ("contained.ofType(Organization).name", json!("Org")),
        ("contained.ofType(Patient).id", json!("c")),
        ("extension('y').value.ofType(code).first()", json!("c")),
        ("extension('x').value.ofType(decimal).highBoundary()", json!(1.55)),
        ("photo.first().url", Value::Null),
    ]);
}

#[test]
fn operators_and_functions() {
    check(&[
        ("1 + 2 * 3", json!(7)),
        ("7 / 2", json!(3.5)),
        ("7 div 2", json!(3)),
        ("7 mod 4", json!(3)),
        ("1 / 0", Value::Null),
        ("-multipleBirth.ofType(integer)", json!(-3)),
        ("9223372036854775807 + 1 > 0", json!(true)),
        ("'a' & {} & 'b'", json!("ab")),
        ("'a' + {}", Value::Null),
        ("gender = 'MALE'", json!(false)),
        ("gender ~ 'MALE'", json!(true)),
        ("{} = 1", Value::Null),
        ("active and {}", Value::Null),
        ("active or {}", json!(true)),
        ("active.not() implies {}", json!(true)),
        ("active xor active", json!(false)),
        ("iif(active, 'yes', 'no')", json!("yes")),
        ("iif(active.not(), 'yes')", Value::Null),
        ("gender.startsWith('ma') and gender.endsWith('le') and gender.contains('al')", json!(true)),
        ("gender.substring(1, 2)", json!("al")),
        ("gender.substring(9)", Value::Null),
        ("gender.length()", json!(4)),
        ("'12'.toInteger() + 1", json!(13)),
        ("'x'.toInteger()", Value::Null),
        ("1.25.round(1) > 1", json!(true)),
        ("(-5).abs()", json!(5)),
    ]);
}

#[test]
fn partial_dates_compare_as_far_as_they_go() {
    check(&[
        ("birthDate = @1970-06", json!(true)),
        ("birthDate = @1970-06-01", Value::Null),
        ("birthDate < %day", json!(true)),
        ("birthDate > @1970", Value::Null),
        ("birthDate >= @1969-12-31", json!(true)),
        ("birthDate.highBoundary()", json!("1970-06-30")),
        ("meta.lastUpdated = @2020-01-01T08:00:00Z", json!(true)),
        ("meta.lastUpdated < @2020-01-01T08:00:00.001Z", json!(true)),
        ("meta.lastUpdated = @2020-01-01", Value::Null),
        ("meta.lastUpdated > @2019-12-31", json!(true)),
        ("@T10:00:00 < @T10:00:00.5", json!(true)),
        ("@T10:00 = @T10:00:00", Value::Null),
    ]);
}

#[test]
fn several_values_are_an_error_only_if_strict() {
    let error = run("name.given", Target::Strict).unwrap_err();
    assert!(error.contains("3 values where one is expected: column `c`"), "{error}");
    assert_eq!(run("name.family", Target::Strict), Ok(SqlValue::Text("Muster".to_owned())));
}

#[test]
fn what_sql_cannot_do_is_refused_by_name() {
    for (path, says) in [
        ("managingOrganization.resolve().name", "resolve() is not supported"),
        ("maritalStatus.memberOf('x')", "memberOf() is not supported"),
        ("gender.matches('m.*')", "matches() is not supported"),
        ("extension.value.ofType(Quantity) > 5 'mg'", "UCUM"),
        ("name.familie", "HumanName has no element `familie`"),
        ("name", "a whole HumanName"),
        ("multipleBirth", "say which with ofType()"),
        ("multipleBirth.ofType(Quantity)", "cannot be a Quantity"),
        ("gender | active", "operator `|`"),
        ("today()", "the day it is asked"),
        ("nonsense()", "nonsense()"),
        ("gender < 5", "cannot compare"),
        ("gender * 2", "is for numbers"),
        ("name.getReferenceKey()", "for references"),
        ("managingOrganization.getReferenceKey(Foo)", "not a resource type"),
    ] {
        let refused = run(path, Target::Warehouse).unwrap_err();
        assert!(
            refused.contains("column `c`") && refused.contains(path) && refused.contains(says),
            "{refused}"
        );
    }
}

#[test]
fn a_view_is_refused_where_a_table_could_not_hold_it() {
    for (view, says) in [
        (
            json!({"resource": "Foo", "select": [{"column": [{"name": "c", "path": "id"}]}]}),
            "not a resource type",
        ),
        (
            json!({"resource": "HumanName", "select": [{"column": [{"name": "c", "path": "id"}]}]}),
            "not a resource type",
        ),
        (json!({"resource": "Patient", "select": [{"forEach": "name"}]}), "no columns"),
        (
            json!({"resource": "Patient", "select": [{"column": [{"name": "a", "path": "id"}, {"name": "A", "path": "id"}]}]}),
            "two columns",
        ),
        (json!({"resource": "Patient", "select": [{"column": [{"name": "key", "path": "id"}]}]}), "already"),
        (
            json!({"resource": "Patient", "select": [{"column": [{"name": "c", "path": "gender", "type": "integer"}]}]}),
            "does not fit",
        ),
        (
            json!({"resource": "Patient", "select": [{"repeat": ["$this"], "column": [{"name": "c", "path": "id"}]}]}),
            "never end",
        ),
        (
            json!({"resource": "Patient", "select": [{"column": [{"name": "c", "path": "id", "tag": [{"name": "ansi/type", "value": "BLOB"}]}]}]}),
            "BLOB",
        ),
    ] {
        let refused = ViewDefinition::parse(&view.to_string())
            .and_then(|view| compile(&view, Target::Warehouse))
            .unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
}

#[test]
fn a_column_that_can_repeat_is_warned_of() {
    let view = json!({"resource": "Patient", "select": [{"column": [{"name": "c", "path": "name.given"}]}]});
    let sql = compile(&ViewDefinition::parse(&view.to_string()).unwrap(), Target::Warehouse).unwrap();
    assert_eq!(sql.warnings, ["column `c`: `name.given` can have several values: the first is taken"]);
}

/// The facts the compiler embeds are the ones that were handed over.
#[test]
fn the_embedded_elements_are_the_shared_ones() {
    let Some(path) = shared("r4-elements.json") else {
        return;
    };
    let facts: std::collections::BTreeMap<String, std::collections::BTreeMap<String, (String, u8, String)>> =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let name = |name: &str| {
        if name == "FHIRReference" { "Reference".to_owned() } else { name.to_owned() }
    };
    let mut expected: Vec<String> = Vec::new();
    for (owner, elements) in &facts {
        for (element, (kind, repeats, group)) in elements {
            let star = if *repeats == 1 { "*" } else { "" };
            let line = format!("{} {element} {star}{} {group}", name(owner), name(kind));
            expected.push(line.trim_end().to_owned());
        }
    }
    let text = include_str!("../../src/views/r4-elements.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": "));
    let mut embedded: Vec<String> = lines
        .flat_map(|(owner, elements)| elements.split(", ").map(move |element| format!("{owner} {element}")))
        .collect();
    expected.sort();
    embedded.sort();
    let missing: Vec<_> = expected.iter().filter(|line| !embedded.contains(line)).take(5).collect();
    let extra: Vec<_> = embedded.iter().filter(|line| !expected.contains(line)).take(5).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, too many {extra:?}");
}
