//! The roster from HealthEx's own consent records: whoever consents is pulled, whoever withdraws is
//! purged, and no answer about consents costs anybody else anything.

use healthex_sync::sandbox::PersonConsent;
use serde_json::json;

use crate::world::{World, observation, wait_until};

const EIGHT: [&str; 8] = ["anna", "ben", "cora", "dan", "eva", "finn", "gus", "hal"];

/// Patients who are on the roster by their consents alone.
fn consenting<const N: usize>(persons: [&str; N]) -> World {
    World::with_patients(persons)
        .set("roster.files", "[]")
        .set("roster.studies", r#"["sandbox-study"]"#)
        .set("roster.consents_every", r#""1s""#)
}

fn synced<const N: usize>(persons: [&str; N]) -> World {
    let world = consenting(persons);
    world.run(["sync"]).exits(0);
    world.sandbox.clear_requests();
    world
}

/// Changes what the consent record of a person says.
fn record(world: &World, person: &str, change: impl FnOnce(&mut PersonConsent)) {
    let mut consent = world.sandbox.consent(person).unwrap();
    change(&mut consent);
    assert!(world.sandbox.set_consent(person, consent));
}

fn withdraw_record(world: &World, person: &str) {
    record(world, person, |consent| consent.consented = Some(false));
}

fn consent_records(world: &World, person: &str) -> i64 {
    world.count(&format!("SELECT count(*) FROM consent_record WHERE person_id = '{person}'"))
}

fn purges(world: &World) -> i64 {
    world.count("SELECT count(*) FROM purge_log")
}

fn held_why(world: &World, person: &str) -> Option<String> {
    world.checkpoint(person, "held_why")
}

#[test]
fn credentials_that_the_records_take_are_refused_no_longer_though_nobody_is_pulled() {
    let world =
        consenting(["anna"]).set("sync.schedule", r#""every 1s""#).set("http.listen", r#""127.0.0.1:0""#);
    world.run(["sync"]).exits(0);
    world.run(["purge", "anna", "--yes"]).exits(0);
    let daemon = world.daemon();
    daemon.tells("READY=1");
    let problem = "healthex_sync_problem{problem=\"credentials\"}";
    world.sandbox.reject_credentials(true);
    world.sandbox.expire_tokens();
    daemon.shows(problem, |there| there == 1);
    world.sandbox.reject_credentials(false);
    daemon.shows(problem, |there| there == 0);
    daemon.stops();
}

#[test]
fn whoever_consents_is_pulled_without_a_file_and_kept_over_an_outage() {
    let world = consenting(["anna", "ben"]);
    record(&world, "ben", |consent| consent.recorded = false);
    world.run(["sync"]).exits(0).says("1 ok");
    world.assert_equals_sandbox("anna");
    assert_eq!(world.checkpoint("anna", "listed_by").as_deref(), Some("study"));
    assert_eq!(world.asked("ben").len(), 0);

    record(&world, "ben", |consent| consent.recorded = true);
    world.run(["sync"]).exits(0).says("2 ok");
    world.assert_equals_sandbox("ben");
    let row = world.table("SELECT study, consented, record_id, expires_at > seen_at FROM consent_record");
    assert_eq!(row.len(), 2);
    assert_eq!((row[0][0].as_str(), row[0][1].as_str(), row[0][3].as_str()), ("sandbox-study", "1", "1"));

    world.fault("kind = 'status', status = 503, at = 'consents'");
    world.sandbox.put("anna", Some("Observation/new"), &observation("anna", 50, "new"));
    let ran = world.run(["sync"]).exits(3).says("2 ok").says("consent records: study sandbox-study");
    assert!(ran.stdout.contains("the last good answer is kept"), "{ran}");
    world.assert_equals_sandbox("anna");
    world.run(["status"]).exits(3).says("last read: ").says("from study sandbox-study: consented");
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0).says("2 ok");
    world.run(["status"]).exits(0);
    world.assert_sound();
}

#[test]
fn a_record_that_cannot_be_read_is_told_and_its_patient_does_not_count_as_gone() {
    let world =
        synced(["anna", "ben"]).set("roster.on_removed", r#""purge""#).set("roster.removed_after", r#""0s""#);
    record(&world, "ben", |consent| consent.recorded = false);
    world.run(["sync"]).exits(0);
    record(&world, "ben", |consent| consent.recorded = true);
    let of = |person: &str, consents: serde_json::Value| json!({"patientId": person, "consents": consents});
    let good = json!([{"consentType": "PATIENT_DIRECTED_DATA_EXCHANGE", "studyId": "sandbox-study",
        "hasPatientConsented": true, "consentRecordId": "21"}]);
    let list = json!([of("anna", good), of("ben", json!("what?"))]).to_string();
    world.fault(&format!("kind = 'answer', body = '{list}', at = 'consents'"));
    for _ in 0..2 {
        let ran = world.run(["sync"]).exits(0);
        assert!(ran.stderr.contains("the consent records of 1 patient cannot be read"), "{ran}");
    }
    assert_eq!(purges(&world), 0);
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0).says("2 ok");
    world.assert_equals_sandbox("ben");
}

#[test]
fn what_a_file_says_of_a_patient_wins() {
    let world = consenting(["anna", "ben", "cora"]).set("roster.files", r#"["roster.toml"]"#);
    world.write_roster(
        "[[patient]]\nid = \"anna\"\nlabel = \"study-1\"\ntypes = [\"Observation\"]\n\
         [[patient]]\nid = \"ben\"\nenabled = false\n",
    );
    world.run(["sync"]).exits(0).says("2 ok, 1 skipped");
    assert_eq!(world.rows("anna").len(), 4);
    assert_eq!(world.rows("ben").len(), 0);
    world.assert_equals_sandbox("cora");
    let status = world.run(["status", "--json"]).exits(0);
    for (at, name, source) in [(0, "ben", "both"), (1, "cora", "study"), (2, "study-1", "both")] {
        assert_eq!(status.text(&format!("/patients/{at}/source")), source, "{name}");
        assert_eq!(status.text(&format!("/patients/{at}/consent")), "consented");
    }
    let merged =
        world.run(["roster"]).exits(0).says("study-1").says("file, sandbox-study").says("3 consented");
    assert!(merged.stdout.contains("(disabled)"), "{merged}");
    let json = world.run(["roster", "--json"]).exits(0);
    assert_eq!(json.text("/patients/0/label"), "study-1");
    assert_eq!(json.text("/patients/2/source"), "study");

    // A file that is written can be used in the place of both.
    let file = world.path("written.csv");
    world.run(["roster", "--csv", file.to_str().unwrap()]).exits(0).says("wrote");
    world.run(["roster", "--csv", file.to_str().unwrap()]).exits(2).says("exists");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, "id,label,types,enabled\nanna,study-1,Observation,true\nben,,,false\ncora,,,true\n");
    assert_eq!(world.run(["roster", "--csv"]).exits(0).stdout, text);
    world.change_setting("roster.files", r#"["written.csv"]"#);
    world.change_setting("roster.studies", "[]");
    world.run(["sync"]).exits(0).says("2 ok, 1 skipped");
    assert_eq!(world.count("SELECT count(*) FROM consent_record"), 0);
    assert_eq!(world.checkpoint("cora", "listed_by").as_deref(), Some("file"));
}

#[test]
fn a_withdrawal_is_confirmed_by_the_record_for_a_roster_of_one() {
    let world = synced(["anna"]);
    world.sandbox.withdraw("anna");
    world.run(["sync", "--dry-run"]).exits(0).says("would purge anna");
    assert_eq!(world.state("anna"), "active");
    world.run(["sync"]).exits(0).says("1 revoked");
    assert_eq!((world.rows_anywhere("anna"), consent_records(&world, "anna")), (0, 0));
    assert_eq!(world.ask("SELECT reason FROM purge_log").as_deref(), Some("consent_revoked"));
    world.scrub_on_server();
    assert!(!world.warehouse_bytes_contain("Zimtstern-anna"));

    // Nobody is asked for ever, and who consents again is pulled.
    world.sandbox.clear_requests();
    for _ in 0..3 {
        world.run(["sync"]).exits(0);
    }
    assert_eq!(world.asked("anna").len(), 0);
    assert_eq!(world.count("SELECT count(*) FROM checkpoint"), 0);
    world.sandbox.grant("anna");
    world.run(["sync"]).exits(0).says("1 ok");
    world.assert_equals_sandbox("anna");
    world.assert_sound();
}

#[test]
fn a_patient_of_a_file_who_withdraws_is_neither_pulled_nor_asked_for_ever() {
    let world = consenting(["anna", "ben"]).set("roster.files", r#"["roster.toml"]"#);
    // By the record alone, and before anything was pulled.
    withdraw_record(&world, "ben");
    world.run(["sync"]).exits(3).says("1 ok, 1 held");
    assert_eq!(world.rows("ben").len(), 0);
    world.change_setting("consent.alone_after", r#""0s""#);
    world.run(["sync"]).exits(0).says("1 revoked");
    assert_eq!((world.state("ben").as_str(), purges(&world)), ("revoked", 0));
    world.sandbox.clear_requests();
    world.run(["sync"]).exits(0).says("1 ok, 1 skipped");
    world.run(["sync", "--full"]).exits(0);
    world.run(["sync", "--patient", "ben"]).exits(0);
    assert_eq!(world.asked("ben").len(), 0);
    record(&world, "ben", |consent| consent.consented = Some(true));
    world.run(["sync"]).exits(0).says("2 ok");
    world.assert_equals_sandbox("ben");

    world.sandbox.withdraw("ben");
    withdraw_record(&world, "ben");
    world.run(["sync"]).exits(0).says("1 revoked");
    world.sandbox.clear_requests();
    world.run(["sync"]).exits(0);
    assert_eq!((world.asked("ben").len(), world.rows_anywhere("ben")), (0, 0));
    world.assert_sound();
}

#[test]
fn a_record_that_is_withdrawn_and_permitted_is_held_not_pulled_and_purged_when_it_lasts() {
    let world = synced(["anna", "ben"]);
    withdraw_record(&world, "anna");
    world.sandbox.put("anna", Some("Observation/new"), &observation("anna", 50, "new"));
    world.run(["sync"]).exits(3).says("1 ok, 1 held").says("1 contradicted");
    assert_eq!(
        (world.state("anna").as_str(), held_why(&world, "anna").as_deref()),
        ("held", Some("contradicted"))
    );
    assert_eq!(world.checkpoint("anna", "refused_at"), None);
    assert_eq!(world.rows("anna").len(), 6);
    assert!(world.asked("anna").iter().all(|request| request.query == "_count=1"));
    world
        .run(["status"])
        .exits(3)
        .says("HealthEx permits it all")
        .says("HELD, 1 contradicted: permitted, while");
    world.run(["purge", "--held", "--yes"]).exits(3).says("its consent record says");
    assert_eq!(purges(&world), 0);

    // An outage of the records is no word of theirs.
    world.change_setting("consent.alone_after", r#""0s""#);
    world.fault("kind = 'status', status = 500, at = 'consents'");
    world.run(["sync"]).exits(3);
    assert_eq!((purges(&world), world.rows("anna").len()), (0, 6));
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0).says("1 revoked").says("purged anna");
    assert_eq!(world.rows_anywhere("anna"), 0);
    world.assert_equals_sandbox("ben");
    world.assert_sound();
}

#[test]
fn a_contradiction_ends_as_it_began() {
    let world = synced(["anna"]);
    withdraw_record(&world, "anna");
    world.run(["sync"]).exits(3).says("1 held");
    record(&world, "anna", |consent| consent.consented = Some(true));
    world.run(["sync"]).exits(0).says("1 ok");
    assert_eq!(world.checkpoint("anna", "consent_ended_at"), None);

    // The other way round: the record consents, and we are refused.
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(3).says("1 contradicted");
    assert_eq!(held_why(&world, "anna").as_deref(), Some("contradicted"));
    world.run(["status"]).exits(3).says("our access that is broken");
    // However long that lasts, and whoever is permitted.
    world.change_setting("consent.alone_after", r#""0s""#);
    world.sandbox.add_person("ben", crate::world::record("ben", 4));
    world.run(["sync"]).exits(3).says("1 ok, 1 held");
    // A record that does not answer knew of the refusal when it last did.
    world.fault("kind = 'status', status = 403, at = 'consents'");
    world.run(["sync"]).exits(3).says("1 ok, 1 held");
    assert_eq!((purges(&world), world.rows("anna").len()), (0, 6));
    world.sandbox.clear_script();
    world.sandbox.grant("anna");
    world.run(["sync"]).exits(0).says("2 ok");
    assert_eq!(world.state("anna"), "active");
    world.assert_sound();
}

#[test]
fn a_refusal_without_a_word_of_the_records_is_judged_by_its_witness() {
    let world = synced(["anna", "ben"]);
    world.sandbox.withdraw("anna");
    record(&world, "anna", |consent| consent.consented = Some(true));
    // It was last read before the refusal, and knows nothing of it.
    world.exec("UPDATE consent_record SET seen_at = '2026-01-01T00:00:00Z'");
    world.fault("kind = 'status', status = 404, at = 'consents'");
    world.run(["sync"]).exits(3).says("1 ok, 1 revoked");
    assert_eq!(world.rows_anywhere("anna"), 0);

    // The record says again that it consents, and it is refused: no longer a purged patient's silence.
    world.sandbox.clear_script();
    world.run(["sync"]).exits(3).says("1 ok, 1 held").says("1 contradicted");
    assert_eq!(world.state("anna"), "held");
    world.sandbox.grant("anna");
    world.run(["sync"]).exits(0).says("2 ok");
    world.assert_equals_sandbox("anna");
}

#[test]
fn who_is_asked_for_its_record_alone_is_not_purged_on_its_first_refusal() {
    let world = synced(["anna", "ben"]);
    withdraw_record(&world, "anna");
    world.run(["sync"]).exits(3).says("1 contradicted");
    // The record was read before, does not answer any more, and HealthEx refuses her once.
    world.exec("UPDATE consent_record SET seen_at = '2026-01-01T00:00:00Z'");
    world.fault("kind = 'status', status = 404, at = 'consents'");
    world.fault("kind = 'status', status = 403, person = 'anna', times = 1");
    world.sandbox.clear_requests();
    world.run(["sync"]).exits(3).says("1 ok, 1 held");
    assert_eq!((purges(&world), world.rows("anna").len()), (0, 6));
    assert_eq!(world.asked("anna").len(), 2, "in another round of the same cycle");
    assert_eq!(world.checkpoint("anna", "refused_at"), None);

    // Refused again, and a witness permitted: that is a withdrawal.
    world.fault("kind = 'status', status = 403, person = 'anna'");
    world.run(["sync"]).exits(3).says("1 ok, 1 revoked");
    assert_eq!(world.rows_anywhere("anna"), 0);
    world.assert_equals_sandbox("ben");
}

#[test]
fn a_consent_that_a_round_finds_given_again_breaks_off_what_was_said_before() {
    let world = synced(["anna", "ben"]).set("roster.consents_every", r#""6h""#);
    withdraw_record(&world, "anna");
    world.run(["sync"]).exits(3).says("1 contradicted");
    world.exec("UPDATE checkpoint SET consent_ended_at = '2026-01-01T00:00:00Z' WHERE person_id = 'anna'");
    // All records are not due again.
    record(&world, "anna", |consent| consent.consented = Some(true));
    world.run(["sync", "--patient", "anna"]).exits(0);
    assert_eq!(world.checkpoint("anna", "consent_ended_at"), None);
    world.run(["sync", "--patient", "anna"]).exits(0).says("1 ok");
    assert_eq!((world.state("anna").as_str(), held_why(&world, "anna")), ("active", None));

    // What is said from now on is counted from now on.
    world.exec("UPDATE study SET read_at = '2026-01-01T00:00:00Z'");
    withdraw_record(&world, "anna");
    world.run(["sync", "--patient", "anna"]).exits(3).says("1 contradicted");
    assert_eq!((purges(&world), world.rows("anna").len()), (0, 6));
}

#[test]
fn a_consent_that_runs_out_is_none_though_the_record_says_true() {
    let world = synced(["anna", "ben"]);
    record(&world, "anna", |consent| {
        consent.consented = Some(true);
        consent.expires = Some("2024-04-21T19:05:59.516Z".to_owned());
    });
    world.run(["sync"]).exits(3).says("1 ok, 1 held").says("contradicted");
    world.run(["roster"]).exits(0).says("expired");
    world.sandbox.withdraw("anna");
    record(&world, "anna", |consent| consent.consented = Some(true));
    world.run(["sync"]).exits(0).says("1 revoked");
    assert_eq!(world.rows_anywhere("anna"), 0);
}

#[test]
fn of_records_that_contradict_each_other_the_latest_counts() {
    let world = synced(["anna", "ben"]);
    let one = |id: u32, consented: bool| {
        json!({"consentType": "PATIENT_DIRECTED_DATA_EXCHANGE", "studyId": "sandbox-study",
            "hasPatientConsented": consented, "consentRecordId": id, "expirationTimestamp": "2099-01-01T00:00:00Z"})
    };
    let list = json!([{"patientId": "anna", "consents": [one(21, true), one(22, false)]},
        {"patientId": "ben", "consents": [one(22, true)]}]);
    let status = |time: &str, status: &str| json!({"timestamp": time, "consentStatus": status}).to_string();
    let answer = |body: &str, rest: &str| world.fault(&format!("kind = 'answer', body = '{body}', {rest}"));
    answer(&list.to_string(), "at = 'consents'");
    // Of which that cannot be told, the one that is given counts.
    world.fault("kind = 'status', status = 404, at = 'consent', times = 2");
    world.run(["sync"]).exits(0).says("2 ok");
    world.sandbox.clear_script();
    answer(&list.to_string(), "at = 'consents'");
    answer(&status("2026-01-01T00:00:00Z", "OPTED_IN"), "at = 'consent', times = 1");
    answer(&status("2026-02-01T00:00:00Z", "OPTED_OUT"), "at = 'consent', from_request = 2, times = 1");
    world.run(["sync"]).exits(3).says("1 ok, 1 held").says("contradicted");
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0).says("2 ok");
    assert_eq!(purges(&world), 0);
}

#[test]
fn a_patient_whom_the_server_forgot_goes_by_its_record_when_that_lasts() {
    let world = synced(["anna", "ben"]);
    withdraw_record(&world, "anna");
    world.fault("kind = 'status', status = 404, person = 'anna'");
    world.run(["sync"]).exits(3).says("1 ok, 1 failed");
    assert_eq!(world.rows("anna").len(), 6);
    world.change_setting("consent.alone_after", r#""0s""#);
    world.run(["sync"]).exits(0).says("1 revoked");
    assert_eq!(world.rows_anywhere("anna"), 0);
}

#[test]
fn who_is_gone_from_the_records_without_a_word_has_left_the_roster() {
    let world = synced(["anna", "ben", "cora"]);
    record(&world, "anna", |consent| consent.recorded = false);
    for _ in 0..2 {
        world.run(["sync"]).exits(0).says("2 ok");
    }
    assert_eq!(world.rows("anna").len(), 6);
    world.run(["status"]).exits(0).says("not on the roster since");
    world.change_setting("roster.on_removed", r#""purge""#);
    world.change_setting("roster.removed_after", r#""0s""#);
    // An answer of before is no reading.
    world.exec("UPDATE checkpoint SET missing_readings = 1 WHERE person_id = 'anna'");
    world.fault("kind = 'html_200', at = 'consents'");
    world.run(["sync"]).exits(3);
    world.run(["sync"]).exits(3);
    assert_eq!(purges(&world), 0);
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0).says("purged anna");
    assert_eq!(world.ask("SELECT reason FROM purge_log").as_deref(), Some("roster"));
    assert_eq!(world.rows_anywhere("anna"), 0);
    world.run(["sync"]).exits(0).says("2 ok");
}

#[test]
fn an_answer_that_cannot_be_believed_changes_nothing_and_is_told() {
    let list = |people: &[&str]| {
        let one = |person: &&str| {
            json!({"patientId": person, "consents": [{
                "consentType": "PATIENT_DIRECTED_DATA_EXCHANGE", "studyId": "sandbox-study",
                "hasPatientConsented": true, "consentRecordId": 7,
            }]})
        };
        json!(people.iter().map(one).collect::<Vec<_>>()).to_string()
    };
    let answer = |body: &str| format!("kind = 'answer', body = '''{body}''', at = 'consents'");
    let half = answer(&list(&EIGHT[..4]));
    let (empty, none) = (answer("[]"), answer(""));
    let bad = [
        ("kind = 'status', status = 400, at = 'consents'".to_owned(), "refused the request"),
        ("kind = 'status', status = 401, at = 'consents'".to_owned(), "401"),
        ("kind = 'status', status = 403, at = 'consents'".to_owned(), "may not read consent records"),
        ("kind = 'status', status = 404, at = 'consents'".to_owned(), "refused the request"),
        ("kind = 'status', status = 500, at = 'consents'".to_owned(), "busy or down (500)"),
        ("kind = 'status', status = 403, body = 'html', at = 'consents'".to_owned(), "refused the request"),
        ("kind = 'html_200', at = 'consents'".to_owned(), "no list of consent records"),
        ("kind = 'wrong_resource', at = 'consents'".to_owned(), "no list of consent records"),
        ("kind = 'cut_chunk', at = 'consents'".to_owned(), "study sandbox-study"),
        ("kind = 'close_delimited_cut', at = 'consents'".to_owned(), "it ended too early"),
        ("kind = 'reset_mid_body', at = 'consents'".to_owned(), "study sandbox-study"),
        ("kind = 'accept_and_close', at = 'consents'".to_owned(), "study sandbox-study"),
        ("kind = 'gzip_bomb', megabytes = 8, at = 'consents'".to_owned(), "white space"),
        (none, "it ended too early"),
        (empty, "has lost 8 of 8 patients"),
        (half, "has lost 4 of 8 patients"),
        (answer(r#"{"data": []}"#), "no list of consent records"),
        (answer(r#"[{"id": "anna", "consented": true}]"#), "1 entry of the answer does not say"),
    ];
    let world = synced(EIGHT)
        .set("consent.hold_after", "3")
        .set("roster.on_removed", r#""purge""#)
        .set("roster.removed_after", r#""0s""#);
    for (fault, says) in &bad {
        world.fault(fault);
        world.run(["sync"]).exits(3).says("8 ok").says(says);
        world.run(["status"]).exits(3).says(says.split(' ').next().unwrap());
        world.sandbox.clear_script();
    }
    assert_eq!((purges(&world), world.count("SELECT count(*) FROM consent_record")), (0, 8));
    assert_eq!(world.count("SELECT count(*) FROM checkpoint WHERE missing_since IS NOT NULL"), 0);

    // Other shapes of the same, of which none is an error.
    for body in [
        r#"[{"patientId":"anna"}]"#,
        r#"[{"patientId":"anna","consents":[{"consentType":"PATIENT_DIRECTED_DATA_EXCHANGE","studyId":"sandbox-study","hasPatientConsented":null}]}]"#,
    ] {
        let seven = list(&EIGHT[1..]);
        let both = format!("{},{}", &body[..body.len() - 1], &seven[1..]);
        world.fault(&answer(&both));
        world.run(["sync"]).exits(0).says("8 ok");
        world.sandbox.clear_script();
    }
    world.fault(&answer(&list(&EIGHT[..4])));
    world.run(["sync", "--allow-shrunk-roster"]).exits(0).says("4 ok");
    assert_eq!(world.count("SELECT count(*) FROM consent_record"), 4);
    world.assert_sound();
}

#[test]
fn many_who_withdraw_at_once_are_held() {
    let world = synced(EIGHT);
    for person in &EIGHT[..6] {
        world.sandbox.withdraw(person);
    }
    world.run(["sync", "--dry-run"]).exits(3).says("6 would be held (6 many)");
    world.run(["sync"]).exits(3).says("2 ok, 6 held").says("6 many");
    assert_eq!(purges(&world), 0);
    assert_eq!(world.rows("anna").len(), 6);
    world.run(["sync"]).exits(3).says("2 ok, 6 held");
    world.sandbox.grant("anna");
    world.run(["sync"]).exits(3).says("3 ok, 5 held");
    world.run(["purge", "--held", "--yes"]).exits(0).says("5");
    assert_eq!(purges(&world), 5);
    world.run(["sync"]).exits(0).says("3 ok");
    // Permitted all the same: not for the record's word alone either.
    for person in EIGHT {
        record(&world, person, |consent| (consent.consented, consent.permitted) = (Some(true), true));
    }
    world.run(["sync"]).exits(0).says("8 ok");
    world.age_purges();
    world.change_setting("consent.alone_after", r#""0s""#);
    for person in &EIGHT[..6] {
        withdraw_record(&world, person);
    }
    world.run(["sync"]).exits(3).says("2 ok, 6 held").says("6 many");
    world.run(["sync"]).exits(3).says("6 many");
    assert_eq!(purges(&world), 5);
}

#[test]
fn what_a_consent_newly_lets_through_or_no_longer_does_is_pulled_in_full() {
    let world = synced(["anna", "ben"]);
    world.run(["sync"]).exits(0);
    let is_full = |person: &str| world.queries(person).iter().all(|query| !query.contains("_since"));
    assert!(!is_full("anna"));
    for scopes in [vec!["LABS", "MEDICATIONS", "CLINICAL_NOTES", "IMAGING"], vec!["LABS"]] {
        record(&world, "anna", |consent| {
            consent.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        });
        world.sandbox.clear_requests();
        world.run(["sync", "--dry-run"]).exits(0);
        assert!(is_full("anna") && !is_full("ben"), "a dry run says the same");
        world.sandbox.clear_requests();
        world.run(["sync"]).exits(0).says("2 ok");
        assert!(is_full("anna") && !is_full("ben"), "{scopes:?}");
        world.sandbox.clear_requests();
        world.run(["sync"]).exits(0);
        assert!(!is_full("anna"), "once");
    }
    // Without the endpoint for one record everything works.
    world.fault("kind = 'status', status = 403, at = 'consent'");
    world.run(["sync"]).exits(0).says("2 ok");
    world.sandbox.clear_script();
}

#[test]
fn check_asks_each_study_once_and_holds_it_against_the_files() {
    let world = consenting(["anna", "ben", "cora"]).set("roster.files", r#"["roster.toml"]"#);
    world.list(&["anna", "ben"]);
    withdraw_record(&world, "ben");
    let before = world.run(["check"]).exits(0).says("study sandbox-study: 2 consented, 1 withdrawn");
    assert!(before.stdout.contains("1 consented, and in no file: cora"), "{before}");
    assert!(before.stdout.contains("1 in a file, and without a consent: ben"), "{before}");
    let asked = world.sandbox.requests();
    assert_eq!(asked.iter().filter(|request| request.path == "/v1/consents").count(), 1);
    world.fault("kind = 'status', status = 403, at = 'consents'");
    world.run(["check"]).exits(3).says("FAILED  consents").says("may not read consent records");
    world.sandbox.clear_script();
    // Without any file, and before the first cycle, the roster is asked for.
    world.change_setting("roster.files", "[]");
    world.run(["roster"]).exits(0).says("cora").says_nothing_of("ben");
    world.run(["check"]).exits(0).says("anna is permitted");
}

#[test]
fn whose_consent_runs_out_is_told_before_it_does() {
    let world = World::for_daemons(3)
        .set("roster.files", r#"["roster.toml"]"#)
        .set("roster.studies", r#"["sandbox-study"]"#)
        .set("roster.consents_every", r#""1s""#)
        .set("sync.schedule", r#""every 1s""#);
    let alerts = world.path("alerts");
    let command = format!("echo \"$HEALTHEX_SYNC_PROBLEM $1\" >> {}", alerts.display());
    world.change_setting("alert.command", &format!("{:?}", ["sh", "-c", &command, "sh"]));
    let soon = healthex_sync::clock::now() + healthex_sync::time::TimeDelta::days(10);
    record(&world, "sandbox-0002", |consent| consent.expires = Some(soon.rfc3339_seconds()));
    let daemon = world.daemon();
    daemon.shows("healthex_sync_consents_expiring", |expiring| expiring == 1);
    let page = daemon.get("/").body;
    assert!(page.contains("Consents that run out"), "{page}");
    let told = || std::fs::read_to_string(&alerts).unwrap_or_default();
    daemon.waits("it is told", || {
        told().contains("expiring healthex-sync: 1 consents run out soon: demo-02").then_some(())
    });
    daemon.shows("healthex_sync_cycles_total{outcome=\"good\"}", |cycles| cycles >= 3);
    daemon.stops();
    assert_eq!(told().lines().filter(|line| line.starts_with("expiring ")).count(), 1);
    let status = world.run(["status", "--json"]).exits(0);
    assert_eq!(status.text("/consents_expiring/0/name"), "demo-02");
    world.run(["status"]).exits(0).says("1 consents run out soon: demo-02");
    world.change_setting("roster.consent_warning", r#""5d""#);
    world.run(["status"]).exits(0).says_nothing_of("run out soon");
}

#[test]
fn the_daemon_takes_up_consents_and_tells_when_the_records_do_not_answer() {
    let world = World::for_daemons(2)
        .set("roster.files", "[]")
        .set("roster.studies", r#"["sandbox-study"]"#)
        .set("roster.consents_every", r#""1s""#)
        .set("sync.schedule", r#""every 1s""#);
    record(&world, "sandbox-0002", |consent| consent.recorded = false);
    let daemon = world.daemon();
    let active = "healthex_sync_patients{state=\"active\"}";
    daemon.shows(active, |active| active == 1);
    record(&world, "sandbox-0002", |consent| consent.recorded = true);
    daemon.shows(active, |active| active == 2);
    let problem = "healthex_sync_problem{problem=\"consents\"}";
    world.fault("kind = 'status', status = 403, at = 'consents'");
    daemon.shows(problem, |problem| problem == 1);
    let page = daemon.get("/").body;
    assert!(page.contains("the consent records cannot be read"), "{page}");
    world.sandbox.clear_script();
    daemon.shows(problem, |problem| problem == 0);
    world.sandbox.withdraw("sandbox-0001");
    daemon.shows("healthex_sync_purges_total{reason=\"consent_revoked\"}", |purges| purges == 1);
    daemon.stops();
    assert_eq!(world.rows_anywhere("sandbox-0001"), 0);
    world.assert_sound();
}

#[test]
fn the_daemon_reads_the_records_no_oftener_than_is_wanted() {
    let world = World::for_daemons(2)
        .set("roster.files", "[]")
        .set("roster.studies", r#"["sandbox-study"]"#)
        .set("roster.consents_every", r#""1h""#)
        .set("sync.schedule", r#""every 1s""#);
    let daemon = world.daemon();
    daemon.shows("healthex_sync_cycles_total{outcome=\"good\"}", |cycles| cycles >= 3);
    daemon.stops();
    let requests = world.sandbox.requests();
    assert_eq!(requests.iter().filter(|request| request.path == "/v1/consents").count(), 1);
}

#[test]
fn a_kill_at_any_moment_of_a_reading_loses_and_purges_nobody() {
    let world = consenting(["anna", "ben", "cora"]);
    let stalls = [
        "kind = 'stall_before_headers', at = 'consents', times = 1",
        "kind = 'stall_mid_body', at = 'consents', times = 1",
        "kind = 'stall_before_headers', at = 'consent', times = 1",
        "kind = 'stall_mid_body', person = 'ben', times = 1",
    ];
    wait_for_stalls(&world);
    for (round, stall) in stalls.iter().enumerate() {
        if round == 2 {
            world.sandbox.withdraw("anna");
        }
        world.fault(stall);
        world.sandbox.clear_requests();
        let running = world.start(["sync"]);
        wait_until("it stalls", || world.sandbox.requests().iter().any(|request| request.fault.is_some()));
        running.kill();
        world.sandbox.clear_script();
        if world.warehouse().exists() {
            world.run(["verify"]).exits(0);
        }
        assert!(round < 2 || world.count("SELECT count(*) FROM checkpoint WHERE state = 'active'") >= 1);
        if round == 1 {
            world.run(["sync"]).exits(0).says("3 ok");
        }
    }
    world.run(["sync"]).exits(0);
    assert_eq!((world.rows_anywhere("anna"), purges(&world)), (0, 1));
    for person in ["ben", "cora"] {
        world.assert_equals_sandbox(person);
    }
    world.assert_sound();
}

/// Lets a stalled answer be waited for until the kill.
fn wait_for_stalls(world: &World) {
    world.change_setting("api.idle_timeout", r#""60s""#);
    world.change_setting("api.page_timeout", r#""10m""#);
}

#[test]
fn people_can_change_what_the_sandbox_says() {
    let world = consenting(["anna"]);
    let url = format!("{}/sandbox/consents/anna", world.sandbox.base_url());
    let Some(curl) = crate::world::tool("curl") else { return };
    let send = |body: &str| {
        let mut command = std::process::Command::new(&curl);
        crate::world::pipe(command.args(["-sf", "-X", "PUT", "-d", body, &url]), "")
    };
    let (is_fine, said) = send(r#"{"consented": false, "scopes": []}"#);
    assert!(is_fine && said.contains("\"consented\":false"), "{said}");
    assert_eq!(world.sandbox.consent("anna").unwrap().consented, Some(false));
    assert!(!send(r#"{"consentd": true}"#).0);
    assert!(!send("nonsense").0);
}

#[test]
fn what_is_asked_about_one_patient_is_logged_by_its_label() {
    let world = consenting(["anna", "ben"]);
    world.change_setting("roster.files", r#"["roster.toml"]"#);
    world.write_roster(
        "[[patient]]\nid = \"anna\"\nlabel = \"one\"\n[[patient]]\nid = \"ben\"\nlabel = \"two\"\n",
    );
    world.run(["sync"]).exits(0);
    world.sandbox.withdraw("anna");
    record(&world, "anna", |consent| consent.consented = Some(true));
    let ran = world.run(["-v", "sync"]).exits(3).says("1 contradicted");
    let asks = |line: &&str| line.contains("POST /v1/consents ") && line.contains("person=one ");
    assert_eq!(ran.stderr.lines().filter(asks).count(), 1, "{ran}");
    assert!(!ran.stderr.contains("anna") && !ran.stderr.contains("ben"), "{ran}");
}
