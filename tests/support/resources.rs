//! Resources that were not made for the test: real-looking ones, and those mangled at random.

use std::fs;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::shared;

/// The resources of Synthea's patients.
pub(crate) fn synthea() -> Vec<Value> {
    let Some(folder) = shared("patients") else {
        return Vec::new();
    };
    let mut resources = Vec::new();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    // In one order everywhere: a seed is to give the same again.
    files.sort();
    for path in files {
        let bytes = fs::read(&path).unwrap();
        let bundle: Value = if path.extension().is_some_and(|end| end == "gz") {
            serde_json::from_reader(flate2::read::GzDecoder::new(bytes.as_slice())).unwrap()
        } else {
            serde_json::from_slice(&bytes).unwrap()
        };
        resources.extend(bundle["entry"].as_array().unwrap().iter().map(|entry| entry["resource"].clone()));
    }
    resources
}

/// The resources of a folder with one JSON file each.
pub(crate) fn examples(folder: &str) -> Vec<Value> {
    let Some(folder) = shared(folder) else {
        return Vec::new();
    };
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    files.iter().map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

/// A random value in `value`: one step deeper with the chance `deeper`, and again.
pub(crate) fn somewhere_inside<'v>(value: &'v mut Value, deeper: f64, random: &mut StdRng) -> &'v mut Value {
    let children = match value {
        Value::Object(members) => members.len(),
        Value::Array(elements) => elements.len(),
        _ => 0,
    };
    if children == 0 || !random.random_bool(deeper) {
        return value;
    }
    let chosen = random.random_range(0..children);
    let child = match value {
        Value::Object(members) => members.values_mut().nth(chosen),
        Value::Array(elements) => elements.get_mut(chosen),
        _ => None,
    };
    somewhere_inside(child.unwrap(), deeper, random)
}

/// Replaces, repeats or removes one value somewhere inside.
pub(crate) fn mangle(value: &mut Value, random: &mut StdRng) {
    let value = somewhere_inside(value, 0.85, random);
    let before = value.take();
    *value = match random.random_range(0..14) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-7),
        3 => json!(1.5e300),
        4 => json!("text"),
        5 => json!("[\"not\", json"),
        6 => json!({}),
        7 => json!([]),
        8 => json!([before.clone(), before]),
        9 => json!({"coding": before}),
        10 => json!(["a", null, {"b": [before]}]),
        11 => json!("2019-05"),
        12 => json!(u64::MAX),
        _ => json!("\u{0}'\"$.a"),
    };
}
