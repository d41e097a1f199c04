//! Damaged resources: every element replaced, doubled, removed, of another type, one after the
//! other; deep ones and long ones. No view fails over one.

use healthex_sync::views::{Several, View, catalogue};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::evaluate::{compiled, rows_of};
use crate::support::resources::examples;

/// What takes the place of each value.
fn damages(value: &Value) -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(-7.5e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}'\"$.a\u{fffd}"),
        json!("2019-02-30T24:00:00+99:99"),
        json!({}),
        json!([]),
        json!([value, value]),
        json!([null, value]),
        json!({"value": value, "coding": [value]}),
    ]
}

/// The JSON pointers of all values below the root.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(elements) => {
            elements.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (name, child) in children {
        let place = format!("{at}/{name}");
        places(child, &place, found);
        found.push(place);
    }
}

/// The built-in views, and one that asks for everything everywhere.
fn views() -> Vec<View> {
    let mut views: Vec<View> =
        catalogue().iter().map(|view| compiled(&serde_json::from_str(view.json).unwrap()).unwrap()).collect();
    for resource in ["Observation", "Patient"] {
        let wide = json!({"resource": resource, "select": [
            {"column": [
                {"name": "all", "path": "descendants()", "collection": true},
                {"name": "codes", "path": "descendants().ofType(Coding).select(code | display).distinct()", "collection": true},
                {"name": "texts", "path": "descendants().ofType(string).join(' ')"},
                {"name": "keys", "path": "descendants().ofType(Reference).getReferenceKey()", "collection": true},
                {"name": "numbers", "path": "descendants().ofType(decimal).sum()"},
                {"name": "times", "path": "descendants().ofType(dateTime).toDate().max()", "type": "date"},
                {"name": "beside", "path": "descendants().where(extension.exists()).id", "collection": true}
            ]},
            {"forEachOrNull": "extension", "column": [{"name": "url", "path": "url"}, {"name": "row", "path": "%rowIndex"}]},
        ]});
        views.push(compiled(&wide).unwrap());
    }
    views
}

fn try_all(views: &[View], resource_type: &Value, text: &str) {
    for view in views.iter().filter(|view| *resource_type == *view.resource_type) {
        rows_of(view, text, Several::KeepFirst).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
}

#[test]
fn whatever_stands_in_the_place_of_any_element_no_view_fails() {
    let views = views();
    let mut tried = 0;
    let mut seen = std::collections::BTreeSet::new();
    for resource in examples("us-core-7.0.0-examples") {
        let resource_type = resource["resourceType"].clone();
        // A few of each type are much alike.
        if !views.iter().any(|view| resource_type == *view.resource_type)
            || !seen.insert(resource_type.to_string())
        {
            continue;
        }
        let mut all = Vec::new();
        places(&resource, "", &mut all);
        for place in all {
            let value = resource.pointer(&place).unwrap().clone();
            for damage in damages(&value) {
                let mut damaged = resource.clone();
                *damaged.pointer_mut(&place).unwrap() = damage;
                try_all(&views, &resource_type, &damaged.to_string());
                tried += 1;
            }
            let (parent, name) = place.rsplit_once('/').unwrap();
            let mut damaged = resource.clone();
            match damaged.pointer_mut(parent).unwrap() {
                Value::Object(members) => {
                    members.remove(&name.replace("~1", "/").replace("~0", "~"));
                }
                Value::Array(elements) => {
                    elements.remove(name.parse().unwrap());
                }
                _ => unreachable!("it has children"),
            }
            try_all(&views, &resource_type, &damaged.to_string());
            // The same name twice: the first counts.
            let doubled = damaged.to_string().replacen('{', &format!("{{\"id\":{value},\"id\":7,"), 1);
            try_all(&views, &resource_type, &doubled);
            tried += 2;
        }
    }
    eprintln!("{tried} damaged resources");
}

#[test]
fn deep_and_long_resources_are_read_or_left_out() {
    let views = views();
    let deep = |depth: usize| {
        let extensions = r#"{"url":"x","extension":["#.repeat(depth) + &"]}".repeat(depth);
        format!(r#"{{"resourceType":"Patient","id":"p","extension":[{extensions}]}}"#)
    };
    for depth in [1, 100, 490, 1_000, 100_000] {
        try_all(&views, &json!("Patient"), &deep(depth));
    }
    let long =
        format!(r#"{{"resourceType":"Patient","id":"p","gender":"{}"}}"#, "\\n\\ud800x".repeat(6_000_000));
    let patients =
        views.iter().find(|view| view.columns.iter().any(|column| column.name == "gender")).unwrap();
    let rows = rows_of(patients, &long, Several::KeepFirst).unwrap();
    assert_eq!(rows[0]["gender"].as_str().unwrap().chars().count(), 18_000_000);
    let many =
        format!(r#"{{"resourceType":"Patient","name":[{}{{}}]}}"#, r#"{"given":["a"]},"#.repeat(1_000_000));
    try_all(&views[..catalogue().len()], &json!("Patient"), &many);
}

fn any_json() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("coding"),
        Just("code"),
        Just("system"),
        Just("value"),
        Just("category"),
        Just("extension"),
        Just("url"),
        Just("valueQuantity"),
        Just("component"),
        Just("subject"),
        Just("reference"),
        Just("effectiveDateTime"),
        Just("effectivePeriod"),
        Just("start"),
        Just("_start"),
        Just("contained"),
        Just("resourceType"),
        Just("id"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null), any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from), any::<String>().prop_map(Value::from), Just(json!("laboratory")),
        "[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,4})?(Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?".prop_map(Value::from),
        "(Patient|#|urn:uuid:|https://x/Patient)/[a-z0-9]{0,3}(/_history/1)?".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 80, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..8).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_a_view_fail(value in any_json()) {
        thread_local! {
            static VIEWS: Vec<View> = views();
        }
        VIEWS.with(|views| {
            for view in views {
                // A root that is no object gives no rows; any object is taken for the view's type.
                rows_of(view, &value.to_string(), Several::KeepFirst).unwrap();
            }
        });
    }
}
