//! What expressions give, one line each, on one patient.

use healthex_sync::views::Several;
use serde_json::{Value, json};

use crate::evaluate::{compiled, dropped_of, rows_of};
use crate::support::shared;

/// As text, so that digits stay as they are written.
fn patient() -> String {
    r##"{
        "resourceType": "Patient", "id": "p1", "active": true, "gender": "male", "birthDate": "1970-06",
        "_birthDate": {"extension": [{"url": "time", "valueDateTime": "1970-06-01T10:00:00Z"}]},
        "_deceasedBoolean": {"extension": [{"url": "absent", "valueCode": "unknown"}]},
        "meta": {"lastUpdated": "2020-01-01T10:00:00+02:00"},
        "name": [
            {"use": "official", "family": "Muster", "given": ["Max", "Maria"],
             "_given": [null, {"id": "second", "extension": [{"url": "q", "valueCode": "CL"}]}]},
            {"use": "nickname", "given": ["M\u00e4xchen"]}
        ],
        "telecom": [{"system": "phone", "value": "1", "rank": 2}, {"system": "email", "value": "a@b"}],
        "multipleBirthInteger": 3,
        "maritalStatus": {"text": "it's complicated"},
        "managingOrganization": {"reference": "#o"},
        "generalPractitioner": [{"reference": "Practitioner/1"}, {"reference": "Organization/2"}, {"display": "x"}],
        "contained": [{"resourceType": "Organization", "id": "o", "name": "Org"}, {"resourceType": "Patient", "id": "c"}],
        "extension": [{"url": "x", "valueDecimal": 1.50}, {"url": "y", "valueCode": "c"},
                      {"url": "z", "valueString": "aGk="}, {"url": "half", "valueString": "a\ud800"}]
    }"##
    .to_owned()
}

fn run(path: &str, several: Several) -> Result<Value, String> {
    let view = compiled(&json!({
        "name": "own",
        "resource": "Patient",
        "select": [{"column": [{"name": "c", "path": path}]}],
        "constant": [{"name": "day", "valueDate": "1970-07-01"}, {"name": "max", "valueString": "Max"}],
    }))?;
    let mut rows = rows_of(&view, &patient(), several)?;
    assert_eq!(rows.len(), 1, "{path}");
    Ok(rows.remove(0).remove("c").unwrap())
}

fn check(cases: &[(&str, Value)]) {
    for (path, expected) in cases {
        assert_eq!(run(path, Several::KeepFirst).as_ref(), Ok(expected), "{path}");
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
        ("extension('x').value.ofType(decimal).highBoundary()", json!(1.505)),
        ("extension('x').value.ofType(decimal).toString()", json!("1.50")),
        ("extension('half').value.ofType(string)", json!("a\u{fffd}")),
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
fn collections_are_united_cut_and_searched() {
    check(&[
        ("(name.given | name.family).join(',')", json!("Max,Maria,Mäxchen,Muster")),
        ("(name.given | name.given).count()", json!(3)),
        ("name.given.combine(name.given).count()", json!(6)),
        ("'Max' in name.given", json!(true)),
        ("'max' in name.given", json!(false)),
        ("{} in name.given", Value::Null),
        ("name.given contains 'Maria'", json!(true)),
        ("telecom.system contains 'fax'", json!(false)),
        ("name.given.combine(name.given).distinct().count()", json!(3)),
        ("name.use.isDistinct()", json!(true)),
        ("name.given.last()", json!("Mäxchen")),
        ("name.last().use", json!("nickname")),
        ("name.given.skip(1).first()", json!("Maria")),
        ("name.given.skip(9).exists()", json!(false)),
        ("name.given.take(2).join('+')", json!("Max+Maria")),
        ("name.given.take(0).exists()", json!(false)),
        ("name.given.tail().join('+')", json!("Maria+Mäxchen")),
        ("name.given.intersect('Max' | 'x')", json!("Max")),
        ("name.given.exclude('Max' | 'x').count()", json!(2)),
        ("('Max' | 'Maria').subsetOf(name.given)", json!(true)),
        ("name.given[1 + 1]", json!("Mäxchen")),
        ("name.given = 'Max'", json!(false)),
        ("name.given = ('Max' | 'Maria' | 'Mäxchen')", json!(true)),
        ("name.given ~ ('maria' | 'MAX' | 'mäxchen')", json!(true)),
        ("name.where($this = %resource.name.first()).use", json!("official")),
        ("coalesce(deceased.ofType(dateTime), birthDate)", json!("1970-06")),
        ("coalesce(photo.url, name.family)", json!("Muster")),
        ("photo.url.coalesce('none')", json!("none")),
        ("photo.url.join(',')", Value::Null),
        ("descendants().where($this is Extension).count()", json!(7)),
        ("name.given.ancestors().where($this is HumanName).count()", json!(3)),
        ("name[1].given.first().ancestors().ofType(HumanName).use", json!("nickname")),
        ("contained[0].name.ancestors().select(id).join(' > ')", json!("p1 > o")),
        ("meta.lastUpdated.ancestors().count()", json!(2)),
        ("ancestors().exists()", json!(false)),
        ("'a'.ancestors().exists()", json!(false)),
        ("children().where($this is HumanName).count()", json!(2)),
        ("repeat(contained | managingOrganization).count()", json!(3)),
        ("name.given.repeat($this).count()", json!(3)),
    ]);
}

#[test]
fn texts_numbers_and_times_are_converted_and_taken_apart() {
    check(&[
        ("(1 | 2.5 | 4).sum()", json!(7.5)),
        ("name.given.select(length()).sum()", json!(15)),
        ("(3 | 1 | 2).min()", json!(1)),
        ("name.given.max()", json!("Mäxchen")),
        ("photo.size.sum()", Value::Null),
        ("(1 | 2).avg()", json!(1.5)),
        ("'a,b,c'.split(',').count()", json!(3)),
        ("'a,b,c'.split(',')[1]", json!("b")),
        ("'ab'.toChars().join('.')", json!("a.b")),
        ("gender.matches('^m.l')", json!(true)),
        ("gender.matches('^al')", json!(false)),
        ("gender.matchesFull('m.*')", json!(true)),
        ("gender.matchesFull('al')", json!(false)),
        ("'2020-05'.replaceMatches('(\\\\d+)-(\\\\d+)', '$2/$1')", json!("05/2020")),
        ("gender.replace('a', 'aa')", json!("maale")),
        ("extension('z').value.ofType(string).decode('base64')", json!("hi")),
        ("'hi'.encode('hex').decode('hex')", json!("hi")),
        ("'no base64'.decode('base64')", Value::Null),
        ("meta.lastUpdated.toDate()", json!("2020-01-01")),
        ("'2020-13'.toDate()", Value::Null),
        ("'2020-12'.toDate() = @2020-12", json!(true)),
        ("'2020-02-30'.convertsToDate()", json!(false)),
        ("'2020-01-01T10:00:00Z'.toDateTime() = @2020-01-01T10:00:00Z", json!(true)),
        ("'10:30'.toTime() = @T10:30", json!(true)),
        ("'yes'.toBoolean()", json!(true)),
        ("'1.50'.toDecimal()", json!(1.5)),
        ("'1e5'.convertsToDecimal()", json!(false)),
        ("(-1.5).floor()", json!(-2)),
        ("1.2.ceiling()", json!(2)),
        ("(0.1 + 0.2) = 0.3", json!(true)),
        ("today() = now().toDate()", json!(true)),
        ("birthDate < today()", json!(true)),
    ]);
}

#[test]
fn what_stands_beside_a_primitive_and_inside_of_the_resource_is_found() {
    check(&[
        ("birthDate.extension('time').value.ofType(dateTime)", json!("1970-06-01T10:00:00Z")),
        ("deceased.ofType(boolean).extension('absent').value.ofType(code)", json!("unknown")),
        ("deceased.ofType(boolean).exists()", json!(false)),
        ("name.given.where(extension('q').exists())", json!("Maria")),
        ("name.given.extension('q').value.ofType(code)", json!("CL")),
        ("name.given.where(id = 'second')", json!("Maria")),
        ("name.given[0].extension.exists()", json!(false)),
        ("birthDate.hasValue()", json!(true)),
        ("managingOrganization.resolve().ofType(Organization).name", json!("Org")),
        ("managingOrganization.resolve().id", json!("o")),
        ("generalPractitioner.resolve().exists()", json!(false)),
        ("contained.where(resourceType = 'Patient').id", json!("c")),
        ("contained.name.first()", json!("Org")),
        ("generalPractitioner.getReferenceKey().join(',')", json!("1,2")),
        ("generalPractitioner.getReferenceKey(Organization)", json!("2")),
        ("multipleBirth", json!("3")),
        ("multipleBirth > 2", json!(true)),
        ("extension.value.ofType(code)", json!("c")),
        ("%resource.resourceType", json!("Patient")),
    ]);
}

#[test]
fn several_values_are_an_error_only_if_strict() {
    let error = run("name.given", Several::Refuse).unwrap_err();
    assert!(
        error.starts_with("view `own`, column `c`, in `name.given`, Patient/p1: several values"),
        "{error}"
    );
    assert!(run("name.given.length()", Several::Refuse).is_err());
    assert_eq!(run("name.family", Several::Refuse), Ok(json!("Muster")));
}

#[test]
fn what_is_dropped_is_counted_by_column() {
    let view = compiled(&json!({"resource": "Patient", "select": [
        {"column": [{"name": "family", "path": "name.family"}]},
        {"forEach": "name", "column": [{"name": "given", "path": "given"}]},
    ]}))
    .unwrap();
    let dropped = dropped_of(&view, &patient(), Several::KeepFirst, &mut |_| {}).unwrap();
    assert_eq!(dropped.by_column(&view).collect::<Vec<_>>(), [("given", 1)]);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (path, says) in [
        ("maritalStatus.memberOf('x')", "memberOf() is not supported"),
        ("extension.value.ofType(Quantity) > 5 'mg'", "UCUM"),
        ("today() - 90 days", "UCUM"),
        ("'5 mg'.toQuantity()", "UCUM"),
        ("name.familie", "HumanName has no element `familie`"),
        ("multipleBirth.start", "none of the types of Patient.multipleBirth[x]"),
        ("contained.nonsense", "no element `nonsense`"),
        ("name", "a whole HumanName"),
        ("name.length()", "is for texts"),
        ("gender.round()", "is for numbers"),
        ("multipleBirth.ofType(Quantity)", "cannot be a Quantity"),
        ("gender.matches('(')", "not a regular expression"),
        ("nonsense()", "nonsense()"),
        ("gender < 5", "cannot compare"),
        ("gender * 2", "is for numbers"),
        ("name.getReferenceKey()", "for references"),
        ("name.where(given)", "must give a boolean"),
        ("managingOrganization.getReferenceKey(Foo)", "not a resource type"),
    ] {
        let refused = run(path, Several::KeepFirst).unwrap_err();
        assert!(
            refused.contains("column `c`") && refused.contains(path) && refused.contains(says),
            "{refused}"
        );
    }
}

#[test]
fn a_resource_may_be_named_by_its_canonical_url() {
    let view = json!({"resource": "http://hl7.org/fhir/StructureDefinition/Patient",
        "select": [{"column": [{"name": "c", "path": "id"}]}]});
    assert_eq!(compiled(&view).unwrap().resource_type, "Patient");
}

#[test]
fn what_a_resource_would_cost_too_much_is_refused() {
    let many: Vec<Value> = (0..1_000).map(|number| json!({"family": number.to_string()})).collect();
    let patient = json!({"resourceType": "Patient", "id": "p", "name": many}).to_string();
    let each = |path: &str| json!({"forEach": path, "column": []});
    let product = compiled(&json!({"resource": "Patient", "select": [each("name"), each("name"),
        {"column": [{"name": "c", "path": "id"}]}]}))
    .unwrap();
    let refused = rows_of(&product, &patient, Several::KeepFirst).unwrap_err();
    assert!(refused.contains("Patient/p: it would give more than 100,000 rows"), "{refused}");
    let squared =
        "name.where(%resource.name.where(%resource.name.where(family = 'x').exists()).exists()).exists()";
    let steps =
        compiled(&json!({"resource": "Patient", "select": [{"column": [{"name": "c", "path": squared}]}]}));
    let refused = rows_of(&steps.unwrap(), &patient, Several::KeepFirst).unwrap_err();
    assert!(refused.contains("column `c`") && refused.contains("steps"), "{refused}");
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
        let refused = compiled(&view).unwrap_err();
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn a_column_that_can_repeat_is_warned_of() {
    let view = json!({"resource": "Patient", "select": [{"column": [{"name": "c", "path": "name.given"}]}]});
    let view = compiled(&view).unwrap();
    assert_eq!(view.warnings, ["column `c`: `name.given` can have several values: the first is taken"]);
}

/// The facts the evaluator embeds are the ones that were handed over.
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
