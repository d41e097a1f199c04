//! The tape held against `serde_json`: the same values, the same refusals.

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::parse::DEPTH_MAX;
use super::*;

/// What the tape holds, rebuilt.
fn value_of(tape: &Tape<'_>, at: At) -> Value {
    match tape.json(at) {
        Json::Null | Json::Name => Value::Null,
        Json::True => Value::Bool(true),
        Json::False => Value::Bool(false),
        Json::Integer | Json::Decimal => serde_json::from_str(tape.written(at)).unwrap(),
        Json::Text => Value::String(tape.text(at).into_owned()),
        Json::Array => tape.elements(at).map(|element| value_of(tape, element)).collect(),
        Json::Object => {
            let members = tape.members(at).map(|(name, value)| (name.into_owned(), value_of(tape, value)));
            Value::Object(members.collect())
        }
    }
}

fn read(text: &str) -> Result<Value, NotATape> {
    let mut memory = TapeMemory::default();
    let tape = Tape::read(text, &mut memory)?;
    Ok(value_of(&tape, tape.root()))
}

#[test]
fn what_is_no_json_is_refused_and_what_is_is_not() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "[,1]",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "tru",
        "nul",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\u{1}\"",
        "\"\n\"",
        "1 2",
        "[1}",
        "{\"a\":1]",
        "{1:2}",
        "[1 2]",
        "{\"a\":1 \"b\":2}",
        "NaN",
        "'a'",
        "\u{feff}{}",
        "[]]",
        "{}}",
        "\"\\\"",
    ] {
        assert!(serde_json::from_str::<IgnoredAny>(text).is_err(), "{text}");
        assert_eq!(read(text), Err(NotATape::NotJson), "{text}");
    }
    for text in [
        "0",
        "-0",
        "-0.0e-0",
        "1E+5",
        "[]",
        " [ ] ",
        "{}",
        "{ }",
        "\"\"",
        "[[],{}]",
        "{\"\":null}",
        "\r\n\t true ",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"",
        "{\"\\u0069d\":[1.50,-2e3]}",
        "\"\u{7f}é😀\"",
    ] {
        assert_eq!(read(text).unwrap(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
    }
}

#[test]
fn nesting_ends_where_it_is_said_to() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let mut memory = TapeMemory::default();
    assert!(Tape::read(&nested(DEPTH_MAX), &mut memory).is_ok());
    assert_eq!(Tape::read(&nested(DEPTH_MAX + 1), &mut memory).unwrap_err(), NotATape::TooDeep);
    assert_eq!(Tape::read(&"[".repeat(1_000_000), &mut memory).unwrap_err(), NotATape::TooDeep);
}

#[test]
fn half_a_surrogate_pair_is_a_replacement_character() {
    for (written, stands_for) in [
        ("a\\ud800", "a\u{fffd}"),
        ("\\udc00b", "\u{fffd}b"),
        ("\\ud800\\ud800", "\u{fffd}\u{fffd}"),
        ("\\ud83d\\n", "\u{fffd}\n"),
        ("\\ud83d\\u0041", "\u{fffd}A"),
        ("\\ud83d\\ude00", "😀"),
        ("\\ude00\\ud83d", "\u{fffd}\u{fffd}"),
    ] {
        assert_eq!(read(&format!("\"{written}\"")), Ok(Value::from(stands_for)), "{written}");
    }
}

#[test]
fn of_two_members_of_one_name_the_first_is_found_however_it_is_written() {
    let mut memory = TapeMemory::default();
    let tape = Tape::read(r#"{"a":{"x":1},"i\u0064":[2],"id":3,"a":4}"#, &mut memory).unwrap();
    let found = |name: &str| tape.member(tape.root(), name).map(|at| tape.written(at));
    assert_eq!((found("id"), found("a")), (Some("[2]"), Some(r#"{"x":1}"#)));
    assert_eq!((found("x"), found("")), (None, None));
    assert_eq!(tape.member(tape.member(tape.root(), "id").unwrap(), "id"), None);
}

#[test]
fn a_value_is_written_without_layout_and_compared_without_order() {
    let mut memory = TapeMemory::default();
    let text = "[ { \"a\" : [ 1.50 , \"x  y\\\"\" ] , \"b\":null } ,\n{\"b\":null,\"a\":[1.5,\"x  y\\\"\"]}, {\"a\":[1.5]}, [1], [1,2] ]";
    let tape = Tape::read(text, &mut memory).unwrap();
    let mut compact = String::new();
    tape.push_compact(tape.root(), &mut compact);
    assert_eq!(
        serde_json::from_str::<Value>(&compact).unwrap(),
        serde_json::from_str::<Value>(text).unwrap()
    );
    assert!(compact.starts_with("[{\"a\":[1.50,\"x  y\\\"\"],\"b\":null},"), "{compact}");
    let all: Vec<At> = tape.elements(tape.root()).collect();
    assert!(tape.same(all[0], all[1]) && tape.same(all[3], all[3]));
    assert!(!tape.same(all[0], all[2]) && !tape.same(all[3], all[4]) && !tape.same(all[4], all[3]));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9f64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"\\\\é]{0,9}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_values_are_those_that_serde_reads(value in any_json(), is_pretty: bool) {
        let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.unwrap();
        prop_assert_eq!(read(&text).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
        let (mut memory, mut compact) = (TapeMemory::default(), String::new());
        let tape = Tape::read(&text, &mut memory).unwrap();
        tape.push_compact(tape.root(), &mut compact);
        prop_assert_eq!(compact, serde_json::to_string(&value).unwrap());
        prop_assert!(tape.same(tape.root(), tape.root()));
    }

    #[test]
    fn what_serde_refuses_is_refused(value in any_json(), edits in prop::collection::vec((any::<prop::sample::Index>(), "[\\]\\[{}:,\"\\\\0-9eE.+tfnu \n\u{1}-]{0,2}"), 0..4)) {
        let mut letters: Vec<char> = serde_json::to_string(&value).unwrap().chars().collect();
        for (at, with) in edits {
            let at = at.index(letters.len() + 1);
            letters.splice(at..(at + 1).min(letters.len()), with.chars());
        }
        let text: String = letters.into_iter().collect();
        let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
        let mut memory = TapeMemory::default();
        prop_assert_eq!(Tape::read(&text, &mut memory).is_ok(), is_json, "{}", text);
    }
}
