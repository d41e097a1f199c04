//! What an answer does to what is kept, case by case.

use super::*;
use crate::plan::consent::Standing;

const DAY: i64 = 24 * 3600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn person(id: &str) -> PersonId {
    PersonId::parse(id).unwrap()
}

fn study() -> Arc<str> {
    "study".into()
}

fn record(consented: bool, expires: Option<i64>) -> ConsentRecord {
    ConsentRecord { id: Some("21".to_owned()), consented, expires_at: expires.map(at) }
}

const TYPE: &str = "PATIENT_DIRECTED_DATA_EXCHANGE";

fn kept_study() -> KeptStudy {
    KeptStudy {
        study: study(),
        consent_type: TYPE.to_owned(),
        read_at: Some(at(-DAY)),
        failing_since: None,
        problem: None,
        patients: None,
    }
}

/// Kept consents of the study, each known to the warehouse as well.
fn kept(rows: &[(&str, ConsentRecord)]) -> KeptConsents {
    let row = |(id, record): &(&str, ConsentRecord)| KeptConsent {
        person: person(id),
        study: study(),
        record: record.clone(),
        seen_at: at(-DAY),
    };
    let known = rows.iter().map(|(id, _)| (person(id), KnownPatient::default())).collect();
    let rows = rows.iter().map(row).collect();
    KeptConsents { rows, studies: vec![kept_study()], known, purged: HashSet::new() }
}

fn answer(patients: &[(&str, Answered)]) -> StudyAnswer {
    let patients = patients.iter().map(|(id, answered)| (person(id), answered.clone())).collect();
    let mut answer = StudyAnswer { patients, nameless: 0 };
    answer.settle(at(0));
    answer
}

fn taken(kept: KeptConsents, answer: Result<StudyAnswer, String>) -> (ConsentsUpdate, RecordsNow) {
    let studies = [study()];
    let hold = HoldRule { hold_after: 5, hold_fraction: 0.02 };
    let wanted = Wanted { studies: &studies, consent_type: TYPE, hold, allow_shrunk: false };
    take_over(kept, wanted, vec![StudyReading { study: study(), answer }], Clocks::of(at(0), None))
}

fn given() -> Answered {
    Answered::Recorded(record(true, Some(DAY)))
}

fn withdrawn() -> Answered {
    Answered::Recorded(record(false, Some(DAY)))
}

fn standings(records: &RecordsNow) -> Vec<(&str, Standing)> {
    records.patients().iter().map(|(person, record)| (person.as_str(), record.standing)).collect()
}

#[test]
fn of_several_records_a_consent_that_lasts_counts_and_then_what_might_be_one() {
    let expired = || Answered::Recorded(record(true, Some(-1)));
    let for_ever = || Answered::Recorded(record(true, None));
    let order = [Answered::Nothing, expired(), withdrawn(), Answered::Unreadable, given(), for_ever()];
    for (at_least, lighter) in order.iter().enumerate() {
        for heavier in &order[at_least..] {
            for (one, other) in [(lighter, heavier), (heavier, lighter)] {
                assert_eq!(&weightier(one.clone(), other.clone(), at(0)), heavier);
            }
        }
    }
    let twin =
        |id: &str| Answered::Recorded(ConsentRecord { id: Some(id.to_owned()), ..record(true, Some(DAY)) });
    assert_eq!(weightier(twin("1"), twin("2"), at(0)), twin("1"), "of two alike the first stays");
    assert_eq!(record(true, Some(0)).standing(at(0)), Standing::Expired);
    assert_eq!(record(true, Some(1)).standing(at(0)), Standing::Consented);
    assert_eq!(record(false, None).standing(at(0)), Standing::Withdrawn);
}

#[test]
fn who_is_new_is_kept_and_who_has_withdrawn_elsewhere_is_not() {
    let before = kept(&[("anna", record(true, Some(DAY)))]);
    let answered =
        answer(&[("anna", given()), ("ben", given()), ("cora", withdrawn()), ("ben", withdrawn())]);
    let (update, records) = taken(before, Ok(answered));
    let put: Vec<&str> = update.put.iter().map(|row| row.person.as_str()).collect();
    assert_eq!(put, ["ben"]);
    assert_eq!((update.gone.len(), update.ended.len(), update.open.len()), (0, 0, 0));
    assert_eq!(standings(&records), [("anna", Standing::Consented), ("ben", Standing::Consented)]);
    assert!(records.is_new && records.problems.is_empty());
    assert_eq!(update.studies[0].read_at, Some(at(0)));
}

#[test]
fn who_withdraws_stays_until_it_is_purged_and_is_remembered_by_its_checkpoint() {
    let before = || kept(&[("anna", record(true, Some(DAY))), ("ben", record(true, Some(DAY)))]);
    let answered = || Ok(answer(&[("anna", withdrawn()), ("ben", given())]));
    let (update, records) = taken(before(), answered());
    assert_eq!(update.ended, [person("anna")]);
    assert_eq!(records.of(&person("anna")).unwrap().standing, Standing::Withdrawn);

    let mut purged = before();
    purged.rows.remove(0);
    let known = KnownPatient { is_settled: true, consent_ended_at: Some(at(-5)) };
    purged.known.insert(person("anna"), known);
    let (update, records) = taken(purged.clone(), answered());
    assert_eq!((update.put.len(), update.ended.len(), update.open.len()), (0, 0, 0));
    assert_eq!(records.of(&person("anna")), None);

    let (update, _) = taken(purged.clone(), Ok(answer(&[("anna", given()), ("ben", given())])));
    assert_eq!((update.put.len(), update.open), (1, vec![person("anna")]));
    // Gone without a word is not withdrawn any more; an answer that failed says nothing.
    let (update, _) = taken(purged.clone(), Ok(answer(&[("ben", given())])));
    assert_eq!(update.open, [person("anna")]);
    let (update, _) = taken(purged, Err("no answer".to_owned()));
    assert!(update.open.is_empty());
}

#[test]
fn a_consent_that_runs_out_ends_without_an_answer() {
    let before = kept(&[("anna", record(true, Some(0))), ("ben", record(true, Some(1)))]);
    let (update, records) = taken(before, Err("no answer".to_owned()));
    assert_eq!(update.ended, [person("anna")]);
    assert_eq!(standings(&records), [("anna", Standing::Expired), ("ben", Standing::Consented)]);
}

#[test]
fn an_answer_that_failed_or_has_lost_too_many_changes_nothing_and_is_told() {
    let names: Vec<String> = (0..10).map(|number| format!("p{number}")).collect();
    let rows: Vec<(&str, ConsentRecord)> =
        names.iter().map(|name| (name.as_str(), record(true, Some(DAY)))).collect();
    let check = |answered: Result<StudyAnswer, String>, says: &str| {
        let (update, records) = taken(kept(&rows), answered);
        assert_eq!(records.patients().len(), 10);
        assert!(update.gone.is_empty() && update.put.is_empty() && update.seen.is_empty());
        assert!(!records.is_new && records.problems[0].contains(says), "{:?}", records.problems);
        assert_eq!(update.studies[0].failing_since, Some(at(0)));
        assert_eq!(update.studies[0].read_at, Some(at(-DAY)));
    };
    check(Err("it was cut".to_owned()), "it was cut");
    let those = |count: usize| {
        let patients: Vec<(&str, Answered)> = rows[..count].iter().map(|(id, _)| (*id, given())).collect();
        Ok(answer(&patients))
    };
    check(those(5), "has lost 5 of 10 patients");
    check(those(0), "has lost 10 of 10 patients");
    let (update, records) = taken(kept(&rows), those(6));
    assert_eq!((update.gone.len(), records.patients().len()), (4, 6));
    // A single patient that is replaced by another is no empty answer.
    let (update, _) = taken(kept(&rows[..1]), Ok(answer(&[("new", given())])));
    assert_eq!(update.gone.len(), 1);
    let (_, records) = taken(kept(&rows[..1]), those(0));
    assert_eq!((records.patients().len(), records.problems.len()), (1, 1));
}

#[test]
fn an_answer_has_lost_those_too_who_were_purged_since_the_last_good_one() {
    let names: Vec<String> = (0..6).map(|number| format!("p{number}")).collect();
    let rows: Vec<(&str, ConsentRecord)> =
        names.iter().map(|name| (name.as_str(), record(true, Some(DAY)))).collect();
    let (purged, others) = rows.split_first().unwrap();
    let before = |patients: Option<u64>, purged: &[&str]| {
        let mut before = kept(others);
        before.studies[0].patients = patients;
        before.purged = purged.iter().map(|id| person(id)).collect();
        before
    };
    let stays = |also: &[(&str, Answered)]| Ok(answer(&[&[(others[0].0, given())], also].concat()));
    let is_taken = |before: KeptConsents, answer| taken(before, answer).0.gone.len() == 4;
    let (_, records) = taken(before(Some(6), &[purged.0]), stays(&[]));
    assert!(records.problems[0].contains("has lost 5 of 6 patients"), "{:?}", records.problems);
    assert!(is_taken(before(Some(6), &[purged.0]), stays(&[(purged.0, withdrawn())])), "it says so itself");
    assert!(is_taken(before(Some(5), &[purged.0]), stays(&[])), "purged before the last good answer");
    assert!(is_taken(before(None, &[purged.0]), stays(&[])), "not noted yet");
    // However many were purged long ago, of whom it never said anything.
    let (_, records) = taken(before(Some(6), &[purged.0, "old", "older"]), stays(&[]));
    assert!(records.problems[0].contains("has lost 5 of 6 patients"), "{:?}", records.problems);
    // Where nobody else is lacking, nobody is lost by it.
    let everybody: Vec<(&str, Answered)> = others.iter().map(|(id, _)| (*id, given())).collect();
    let (update, records) = taken(before(Some(20), &["a", "b", "c", "d", "e", "f"]), Ok(answer(&everybody)));
    assert_eq!((records.problems.len(), update.studies[0].patients), (0, Some(5)));
}

#[test]
fn what_cannot_be_read_loses_nobody() {
    let before = || kept(&[("anna", record(true, Some(DAY))), ("ben", record(true, Some(DAY)))]);
    let (update, records) =
        taken(before(), Ok(answer(&[("anna", Answered::Unreadable), ("ben", Answered::Nothing)])));
    assert_eq!(standings(&records), [("anna", Standing::Consented)]);
    assert_eq!(update.gone, [(study(), person("ben"))]);
    let nameless = StudyAnswer { nameless: 1, ..answer(&[("ben", given())]) };
    let (update, records) = taken(before(), Ok(nameless));
    assert_eq!((records.patients().len(), update.gone.len()), (2, 0));
    assert!(
        records.problems[0].contains("1 entry of the answer does not say which patient is meant"),
        "{:?}",
        records.problems
    );
}

#[test]
fn who_has_a_record_that_cannot_be_read_is_told_and_is_not_missing() {
    let answered =
        || answer(&[("anna", given()), ("ben", Answered::Unreadable), ("cora", Answered::Unreadable)]);
    let before = || kept(&[("anna", record(true, Some(DAY))), ("cora", record(true, Some(DAY)))]);
    let (update, records) = taken(before(), Ok(answered()));
    assert_eq!(
        (&records.unreadable[..], records.unreadable_kept),
        (&[person("ben")][..], 1),
        "cora's is kept"
    );
    assert!(records.is_new && records.problems.is_empty() && update.studies[0].failing_since.is_none());
}

#[test]
fn one_study_is_enough() {
    let studies: [Arc<str>; 2] = ["one".into(), "two".into()];
    let wanted = Wanted { studies: &studies, consent_type: TYPE, ..Wanted::default() };
    let known = KnownPatient { is_settled: false, consent_ended_at: Some(at(-9)) };
    let kept = || KeptConsents { known: [(person("anna"), known)].into(), ..KeptConsents::default() };
    let reading = |number: usize, answered| StudyReading { study: studies[number].clone(), answer: answered };
    let (update, records) = take_over(
        kept(),
        wanted,
        vec![
            reading(0, Ok(answer(&[("anna", withdrawn())]))),
            reading(1, Ok(answer(&[("anna", Answered::Recorded(record(true, None)))]))),
        ],
        Clocks::of(at(0), None),
    );
    assert_eq!(standings(&records), [("anna", Standing::Consented)]);
    assert_eq!(update.open, [person("anna")]);
    let patients = update.studies.iter().map(|study| study.patients);
    assert_eq!(patients.collect::<Vec<_>>(), [Some(1), Some(1)], "each study's own");
    let second = reading(1, Err("down".to_owned()));
    let (update, records) =
        take_over(kept(), wanted, vec![reading(0, Ok(answer(&[]))), second], Clocks::of(at(0), None));
    assert!(update.open.is_empty() && !records.is_new, "the study that is down may know better");
}

#[test]
fn a_study_that_is_not_asked_for_any_more_is_forgotten() {
    let before = kept(&[("anna", record(true, None))]);
    let studies: [Arc<str>; 1] = [study()];
    for wanted in [
        Wanted { studies: &[], consent_type: TYPE, ..Wanted::default() },
        Wanted { studies: &studies, consent_type: "FUTURE_DATA_USE", ..Wanted::default() },
    ] {
        let (update, records) = take_over(before.clone(), wanted, Vec::new(), Clocks::of(at(0), None));
        assert_eq!((update.forgotten, records.patients().len()), (vec![study()], 0));
    }
}

#[test]
fn records_are_read_as_often_as_is_wanted_and_when_a_consent_has_run_out() {
    let studies: [Arc<str>; 1] = [study()];
    let wanted = Wanted { studies: &studies, consent_type: TYPE, ..Wanted::default() };
    let check = |kept: &KeptConsents, every: u64, is_due: bool| {
        assert_eq!(kept.due(wanted, Duration::from_secs(every), at(0)).len(), usize::from(is_due));
    };
    let read = kept(&[("anna", record(true, Some(DAY)))]);
    check(&read, 2 * 24 * 3600, false);
    check(&read, 24 * 3600 + 20, true);
    check(&kept(&[("anna", record(true, Some(-1)))]), 2 * 24 * 3600, true);
    check(&kept(&[("anna", record(true, Some(-2 * DAY)))]), 2 * 24 * 3600, false);
    check(&KeptConsents::default(), 2 * 24 * 3600, true);
    // Our clock was ahead: the server's has it run out later, or it has by now, which is noted.
    let expired = kept(&[("anna", record(true, Some(-DAY - 600)))]);
    let early = kept(&[("anna", record(true, Some(-600)))]);
    let read_since = |kept: &KeptConsents| {
        let studies = vec![KeptStudy { read_at: Some(at(-300)), ..kept_study() }];
        KeptConsents { studies, ..kept.clone() }
    };
    check(&read_since(&early), 3600, true);
    check(&read_since(&expired), 3600, false);
    for known in [
        KnownPatient { consent_ended_at: Some(at(-300)), ..KnownPatient::default() },
        KnownPatient { is_settled: true, ..KnownPatient::default() },
    ] {
        let known = HashMap::from([(person("anna"), known)]);
        check(&KeptConsents { known, ..read_since(&early) }, 3600, false);
    }
    check(&KeptConsents { known: HashMap::new(), ..read_since(&early) }, 3600, false);
    // A tenth earlier will do, and half a minute at the most.
    let read_at = |seconds: i64| {
        let studies = vec![KeptStudy { read_at: Some(at(seconds)), ..kept_study() }];
        KeptConsents { studies, ..kept(&[]) }
    };
    check(&read_at(-53), 60, false);
    check(&read_at(-54), 60, true);
    check(&read_at(-3569), 3600, false);
    check(&read_at(-3570), 3600, true);
    check(&read_at(0), 3600, false);
    // It was noted by a clock that was ahead.
    check(&read_at(1), 3600, true);
    assert_eq!(read.unread(wanted), []);
    let of_another_type = Wanted { consent_type: "FUTURE_DATA_USE", ..wanted };
    assert_eq!(read.unread(of_another_type), [study()]);
    let another: [Arc<str>; 1] = ["another".into()];
    assert_eq!(read.unread(Wanted { studies: &another, ..wanted }), another);
    assert_eq!(KeptConsents::default().unread(wanted), [study()]);
}

#[test]
fn an_answer_has_each_patient_once_and_in_order() {
    let entry = |id: &str, answered| (person(id), answered);
    let patients = vec![entry("ben", withdrawn()), entry("anna", given()), entry("ben", given())];
    let mut answer = StudyAnswer { patients, nameless: 0 };
    answer.settle(at(0));
    assert_eq!(answer.patients, [entry("anna", given()), entry("ben", given())]);
    let counted = [Standing::Consented, Standing::Withdrawn, Standing::Expired];
    assert_eq!(counted.map(|standing| answer.count(standing, at(0))), [2, 0, 0]);
    assert_eq!(counted.map(|standing| answer.count(standing, at(DAY))), [0, 0, 2]);
}

#[test]
fn where_no_records_are_asked_for_nothing_is_out_of_date() {
    let unasked = RecordsNow::unasked();
    assert!(unasked.is_new && unasked.patients().is_empty() && unasked.problems.is_empty());
}

#[test]
fn each_study_has_its_own_note() {
    let studies: [Arc<str>; 2] = ["one".into(), "two".into()];
    let wanted = Wanted { studies: &studies, consent_type: TYPE, ..Wanted::default() };
    let noted = |number: usize, since: i64| KeptStudy {
        study: studies[number].clone(),
        failing_since: Some(at(since)),
        ..kept_study()
    };
    let kept = KeptConsents { studies: vec![noted(0, -9), noted(1, -5)], ..KeptConsents::default() };
    let failed = |study: &Arc<str>| StudyReading { study: study.clone(), answer: Err("down".to_owned()) };
    let (update, _) = take_over(kept, wanted, studies.iter().map(failed).collect(), Clocks::of(at(0), None));
    let since: Vec<_> =
        update.studies.iter().map(|study| (study.study.clone(), study.failing_since)).collect();
    assert_eq!(since, [(studies[0].clone(), Some(at(-9))), (studies[1].clone(), Some(at(-5)))]);
}

#[test]
fn an_answer_that_lost_many_is_taken_where_that_is_allowed_or_where_it_names_nobody() {
    let names: Vec<String> = (0..10).map(|number| format!("p{number}")).collect();
    let rows: Vec<(&str, ConsentRecord)> =
        names.iter().map(|name| (name.as_str(), record(true, Some(DAY)))).collect();
    let (update, records) = taken(kept(&rows), Ok(StudyAnswer { nameless: 1, ..StudyAnswer::default() }));
    assert_eq!((update.gone.len(), records.patients().len()), (0, 10));
    assert!(
        records.problems[0].contains("1 entry of the answer does not say which patient is meant"),
        "{:?}",
        records.problems
    );

    let studies = [study()];
    let hold = HoldRule { hold_after: 5, hold_fraction: 0.02 };
    let wanted = Wanted { studies: &studies, consent_type: TYPE, hold, allow_shrunk: true };
    let reading = StudyReading { study: study(), answer: Ok(StudyAnswer::default()) };
    let (update, records) = take_over(kept(&rows), wanted, vec![reading], Clocks::of(at(0), None));
    assert_eq!((update.gone.len(), records.problems.len()), (10, 0));
}

#[test]
fn consents_that_run_out_are_told_again_after_a_day_and_after_a_wrong_clock() {
    for (told, expected) in [
        (None, false),
        (Some(0), true),
        (Some(-1), true),
        (Some(1 - DAY), true),
        (Some(-DAY), false),
        (Some(-2 * DAY), false),
        (Some(1), false),
    ] {
        assert_eq!(was_told_lately(told.map(at), at(0)), expected, "{told:?}");
    }
}
