//! What an entry is, case by case.

use super::*;

fn rules() -> EntryRules {
    EntryRules { fhir_root: "https://h/FHIR/R4/".to_owned(), entry_bytes_max: 10_000, depth_max: 20 }
}

fn sorted_entry(bytes: &[u8]) -> SortedEntry {
    let entry = Entry { bytes: bytes.to_vec(), size: bytes.len() as u64, depth: 3 };
    sort_entry(entry, &rules())
}

fn sorted(text: &str) -> Sorted {
    sorted_entry(text.as_bytes()).sorted
}

fn row(text: &str) -> Row {
    match sorted(text) {
        Sorted::Row(row) => row,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_is_the_full_url_else_the_id_else_the_hash() {
    let check = |text: &str, key: &str| assert_eq!(row(text).key, key);
    let resource = r#""resource":{"resourceType":"Observation","id":"o.1"}"#;
    check(&format!(r#"{{"fullUrl":"https://h/FHIR/R4/Observation/u1",{resource}}}"#), "Observation/u1");
    check(&format!(r#"{{"fullUrl":"urn:uuid:1",{resource}}}"#), "urn:uuid:1");
    check(
        &format!(r#"{{"fullUrl":"https://other/FHIR/R4/Observation/u1",{resource}}}"#),
        "https://other/FHIR/R4/Observation/u1",
    );
    check(&format!("{{{resource}}}"), "Observation/o.1");
    let bare = r#"{"resourceType":"Observation"}"#;
    check(
        &format!(r#"{{"resource":{bare}}}"#),
        &crate::plan::quarantine::hash_key("Observation", bare.as_bytes()),
    );
    check(
        &format!(r#"{{"fullUrl":"https://h/FHIR/R4/Observation/u1/_history/7",{resource}}}"#),
        "Observation/u1",
    );
}

#[test]
fn an_identity_is_the_name_the_type_and_the_id() {
    let identity = |name: &str, of: &str, id: &str| {
        let text = format!(r#"{{"fullUrl":"{name}","resource":{{"resourceType":"{of}","id":"{id}"}}}}"#);
        sorted_entry(text.as_bytes()).identity.unwrap()
    };
    let all = [
        identity("Observation/undefined", "Observation", "a"),
        identity("Observation/undefined", "Observation", "b"),
        identity("Observation/undefined", "Condition", "a"),
        identity("Observation/null", "Observation", "a"),
        // Quarantined ones are counted by the same rule.
        identity("Observation/undefined", "Nonsense", "a"),
        identity("Observation/undefined", "Nonsense", "b"),
    ];
    assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
    let version = identity("Observation/undefined/_history/2", "Observation", "a");
    assert_eq!(version, all[0]);
}

#[test]
fn only_includes_are_counted_apart() {
    for (mode, is_include) in [("match", false), ("include", true), ("outcome", false), ("", false)] {
        for resource in [r#"{"resourceType":"Patient"}"#, "null", "7"] {
            let text = format!(r#"{{"search":{{"mode":"{mode}"}},"resource":{resource}}}"#);
            assert_eq!(sorted_entry(text.as_bytes()).is_include, is_include, "{text}");
        }
    }
}

#[test]
fn a_name_that_no_engine_could_keep_is_quarantined() {
    let long = "x".repeat(KEY_BYTES_MAX + 1);
    let fits = "x".repeat(KEY_BYTES_MAX);
    let rest = r#""resourceType":"Observation""#;
    let check = |text: &str, reason: &str| match sorted_entry(text.as_bytes()) {
        SortedEntry { sorted: Sorted::Quarantined(entry), identity: Some(_), .. } => {
            assert_eq!((entry.reason, entry.table), (reason, Some("observation")), "{text}");
            assert_eq!(entry.entry, text.as_bytes());
            assert!(!entry.key.contains('\0') && entry.key.len() <= KEY_BYTES_MAX, "{text}");
        }
        other => panic!("{text}: {other:?}"),
    };
    for text in [
        format!(r#"{{"fullUrl":"a\u0000b","resource":{{{rest}}}}}"#),
        format!(r#"{{"fullUrl":"u","resource":{{{rest},"id":"\u0000"}}}}"#),
        format!(r#"{{"resource":{{{rest},"id":"\u0000"}}}}"#),
        format!(r#"{{"resource":{{{rest},"id":"i","meta":{{"source":"\u0000"}}}}}}"#),
        format!(r#"{{"resource":{{{rest},"id":"i","meta":{{"versionId":"1\u0000"}}}}}}"#),
        format!(r#"{{"resource":{{{rest},"id":"i","meta":{{"lastUpdated":"\u0000"}}}}}}"#),
        format!(r#"{{"resource":{{{rest},"subject":{{"reference":"Patient/\u0000"}}}}}}"#),
    ] {
        check(&text, "a name holds U+0000");
    }
    check(&format!(r#"{{"fullUrl":"{long}","resource":{{{rest}}}}}"#), "fullUrl or id too long");
    check(&format!(r#"{{"fullUrl":"u","resource":{{{rest},"id":"{long}"}}}}"#), "fullUrl or id too long");
    check(&format!(r#"{{"resource":{{{rest},"id":"{fits}"}}}}"#), "fullUrl or id too long");
    assert_eq!(row(&format!(r#"{{"fullUrl":"{fits}","resource":{{{rest}}}}}"#)).key, fits);
    // Elsewhere it is a letter like any other.
    row(&format!(r#"{{"resource":{{{rest},"note":"\u0000"}}}}"#));
}

#[test]
fn what_is_no_json_is_named_as_far_as_it_can_be_read() {
    let check = |text: &str, key: Option<&str>, id: Option<&str>| match sorted_entry(text.as_bytes()) {
        SortedEntry { sorted: Sorted::Unreadable(entry), identity: Some(identity), .. } => {
            assert_eq!((entry.id.as_deref(), entry.entry.as_slice()), (id, text.as_bytes()), "{text}");
            assert_eq!(entry.is_named, key.is_some(), "{text}");
            assert!(key.is_none_or(|key| entry.key == key), "{text}: {}", entry.key);
            assert_eq!(identity, entry.identity().hash());
        }
        other => panic!("{text}: {other:?}"),
    };
    let bad = |number: &str| {
        format!(
            r#"{{"fullUrl":"https://h/FHIR/R4/Observation/u","resource":{{"resourceType":"Observation","id":"i","value":{number}}}}}"#
        )
    };
    for number in ["+3.0", ".5", "NaN", "01", "3.", "-", "", "Infinity", "'x'", "\"\t\""] {
        check(&bad(number), Some("Observation/u"), Some("i"));
    }
    check(
        r#"{"resource":{"id":"i","resourceType":"Observation","value":+3}}"#,
        Some("Observation/i"),
        Some("i"),
    );
    check(r#"{"resource":{"resourceType"}}"#, None, None);
    check("+3.0", None, None);
    let readable = bad("3.0");
    assert_eq!(sorted_entry(readable.as_bytes()).identity, sorted_entry(bad("+3.0").as_bytes()).identity);
}

#[test]
fn bytes_in_are_bytes_stored() {
    let resource = r#"{"resourceType":"Observation", "valueQuantity" : {"value":1.50},"x":"\u0000 \"  "}"#;
    assert_eq!(row(&format!(r#"{{"resource": {resource} }}"#)).resource, resource);
}

#[test]
fn the_patient_is_the_first_reference_to_one() {
    let check = |resource: &str, patient: Option<&str>| {
        assert_eq!(row(&format!(r#"{{"resource":{resource}}}"#)).patient.as_deref(), patient, "{resource}");
    };
    check(r#"{"resourceType":"Patient","id":"p"}"#, Some("Patient/p"));
    check(r#"{"resourceType":"Observation","subject":{"reference":"Patient/p"}}"#, Some("Patient/p"));
    check(r#"{"resourceType":"Observation","subject":{"reference":"Group/g"}}"#, None);
    check(
        r#"{"resourceType":"Observation","subject":{"reference":"Group/g"},"performer":[{"reference":"Practitioner/x"},{"reference":"Patient/q"}]}"#,
        Some("Patient/q"),
    );
    check(
        r#"{"resourceType":"Coverage","beneficiary":{"reference":"https://h/Patient/p/_history/2"}}"#,
        Some("https://h/Patient/p/_history/2"),
    );
    check(
        r#"{"resourceType":"Appointment","participant":[{"actor":{"reference":"Location/l"}},{"actor":{"reference":"Patient/p"}}]}"#,
        Some("Patient/p"),
    );
    check(
        r#"{"resourceType":"Claim","patient":{"reference":"urn:uuid:1","type":"Patient"}}"#,
        Some("urn:uuid:1"),
    );
    check(r#"{"resourceType":"Claim","patient":"nonsense"}"#, None);
    check(r#"{"resourceType":"Organization","patient":{"reference":"Patient/p"}}"#, None);
}

#[test]
fn what_cannot_be_stored_as_what_it_claims_is_quarantined() {
    let check = |text: &str, reason: &str| match sorted(text) {
        Sorted::Quarantined(entry) => {
            assert_eq!((entry.reason, entry.entry.as_slice()), (reason, text.as_bytes()));
            assert!(!entry.key.is_empty());
        }
        other => panic!("{text}: {other:?}"),
    };
    check(r#"{"resource":{"resourceType":"Nonsense"}}"#, "resourceType is not an R4 type");
    check(r#"{"resource":{"id":"x"}}"#, "no resourceType");
    check(r#"{"resource":{"resourceType":7}}"#, "no resourceType");
    check(r#"{"resource":"text"}"#, "resource is not an object");
    check(r#"{"resource":{"resourceType":"Patient","id":"a","id":"b"}}"#, "resource repeats an element");
    check(r#""text""#, "not an entry");
    check("[1]", "not an entry");
    assert!(matches!(sorted("{\"resource\":{\"resourceType\":\"Patient\0\"}}"), Sorted::Unreadable(_)));
    assert!(matches!(sorted(r#"{"fullUrl":"x"}"#), Sorted::NoResource));
    let broken =
        b"{\"fullUrl\":\"urn:x\",\"resource\":{\"resourceType\":\"Patient\",\"id\":\"i\",\"x\":\"\xff\"}}";
    match sorted_entry(broken).sorted {
        Sorted::Quarantined(entry) => {
            assert_eq!((entry.key.as_str(), entry.id.as_deref()), ("urn:x", Some("i")));
            assert_eq!(entry.entry, broken, "its bytes, and not what they look like");
        }
        other => panic!("{other:?}"),
    }
}

fn outcome(mode: &str, id: &str, issues: &str) -> SortedEntry {
    let search = if mode.is_empty() { String::new() } else { format!(r#""search":{{"mode":"{mode}"}},"#) };
    let id = if id.is_empty() { String::new() } else { format!(r#""id":"{id}","#) };
    let text =
        format!(r#"{{{search}"resource":{{{id}"resourceType":"OperationOutcome","issue":[{issues}]}}}}"#);
    sorted_entry(text.as_bytes())
}

#[test]
fn an_outcome_is_about_the_answer_whatever_its_mode() {
    for (mode, id, is_stored) in [
        ("outcome", "o", false),
        ("match", "o", true),
        ("match", "", false),
        ("include", "o", false),
        ("", "o", false),
    ] {
        match outcome(mode, id, r#"{"severity":"warning","code":"incomplete","diagnostics":"Anna"}"#) {
            SortedEntry { sorted: Sorted::Outcome { outcome, row, .. }, identity, .. } => {
                assert_eq!(outcome.issues, ["warning/incomplete"]);
                assert!(outcome.is_incomplete && !outcome.is_error);
                assert_eq!((row.is_some(), identity.is_some()), (is_stored, is_stored), "{mode} {id}");
            }
            other => panic!("{mode}: {other:?}"),
        }
    }
    assert!(matches!(
        sorted(r#"{"search":{"mode":"outcome"},"resource":{"issue":[]}}"#),
        Sorted::Outcome { .. }
    ));
    // A resource does not become an outcome by being called one.
    row(r#"{"search":{"mode":"outcome"},"resource":{"resourceType":"Observation"}}"#);
}

#[test]
fn the_codes_of_an_outcome_say_whether_the_answer_is_the_whole_record() {
    let check = |issues: &str, is_error, is_incomplete| match outcome("", "", issues).sorted {
        Sorted::Outcome { outcome, .. } => {
            assert_eq!((outcome.is_error, outcome.is_incomplete), (is_error, is_incomplete), "{issues}");
        }
        other => panic!("{other:?}"),
    };
    for code in ["incomplete", "timeout", "transient", "throttled", "exception", "no-store", "lock-error"] {
        check(&format!(r#"{{"severity":"warning","code":"{code}"}}"#), false, true);
        check(&format!(r#"7,{{"severity":3,"code":"{code}"}}"#), false, true);
    }
    for code in ["informational", "processing", "suppressed", "forbidden"] {
        check(&format!(r#"{{"severity":"information","code":"{code}"}}"#), false, false);
    }
    check(r#"{"severity":"error","code":"processing"}"#, true, false);
    check(r#"{"severity":"fatal"}"#, true, false);
    check("", false, false);
}

#[test]
fn an_outcome_is_noted_by_severity_and_code_alone() {
    let issues = r#"{"severity":"warning","code":"processing","diagnostics":"Anna"},{"severity":"fatal","code":"Anna"}"#;
    match outcome("outcome", "", issues).sorted {
        Sorted::Outcome { outcome, .. } => assert_eq!(outcome.issues, ["warning/processing", "fatal/?"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_too_large_or_too_deep_begins_behind_the_limit() {
    let check = |entry: Entry, expected: Option<&str>| match sort_entry(entry, &rules()).sorted {
        Sorted::Row(_) => assert_eq!(expected, None),
        Sorted::Quarantined(entry) => assert_eq!(Some(entry.reason), expected),
        other => panic!("{other:?}"),
    };
    let bytes = || br#"{"resource":{"resourceType":"Patient","id":"p"}}"#.to_vec();
    for (size, reason) in [(10_000, None), (10_001, Some(TOO_LARGE)), (20_000, Some(TOO_LARGE))] {
        check(Entry { bytes: bytes(), size, depth: 3 }, reason);
    }
    let deep = Some("nested too deeply");
    for (depth, reason) in [(20, None), (21, deep), (40, deep)] {
        check(Entry { bytes: bytes(), size: 9, depth }, reason);
    }
}

#[test]
fn a_large_entry_goes_by_its_name_else_by_its_beginning_and_size() {
    let key = |text: &str, size| {
        let entry = Entry { bytes: text.as_bytes().to_vec(), size, depth: 3 };
        match sort_entry(entry, &rules()).sorted {
            Sorted::Quarantined(entry) => entry.key,
            other => panic!("{other:?}"),
        }
    };
    let named = r#"{"fullUrl":"https://h/FHIR/R4/Binary/b","resource":{"data":"AAAA"#;
    assert_eq!(key(named, 20_000), "Binary/b");
    let [one, other] = [20_000, 20_001].map(|size| key(r#"{"resource":{"data":"AAAA"#, size));
    assert!(one.starts_with("#too-large-") && other.starts_with("#too-large-") && one != other);
}

#[test]
fn an_outcome_is_stray_that_does_not_call_itself_one() {
    for (mode, id, is_stray) in [
        ("outcome", "o", false),
        ("match", "o", false),
        ("match", "", true),
        ("include", "o", true),
        ("", "", true),
    ] {
        match outcome(mode, id, "").sorted {
            Sorted::Outcome { is_stray: found, .. } => assert_eq!(found, is_stray, "{mode} {id}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stored_resource_makes_its_row_again() {
    let text = r#"{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/p"}}"#;
    let again = row_of("Observation/u", text).unwrap();
    let received = row(&format!(r#"{{"fullUrl":"https://h/FHIR/R4/Observation/u","resource":{text}}}"#));
    assert_eq!((again.key, again.id, again.patient), (received.key, received.id, received.patient));
    assert_eq!((again.table, again.content_hash), (received.table, received.content_hash));
    assert!(row_of("x", "7").is_none() && row_of("x", "{").is_none());
}

#[test]
fn nothing_of_a_resource_is_in_what_is_told_of_it() {
    let text = r#"{"resource":{"resourceType":"Patient","id":"p","name":[{"text":"Anna"}]}}"#;
    let entry = Entry { bytes: text.as_bytes().to_vec(), size: 73, depth: 5 };
    assert_eq!(format!("{entry:?}"), "Entry(73 bytes)");
    let told = format!("{:?}", row(text));
    assert!(told.contains("Patient/p") && !told.contains("Anna"), "{told}");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_sorted_without_a_panic(bytes in proptest::collection::vec(0u8..=255, 0..200)) {
        let size = bytes.len() as u64;
        let _ = sort_entry(Entry { bytes, size, depth: 1 }, &rules());
    }
}
