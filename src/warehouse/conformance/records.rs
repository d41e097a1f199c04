//! What consent records said: kept until the next answer, gone with a purge, and remembered of whoever
//! has withdrawn.

use std::sync::Arc;

use super::Candidate;
use super::trial::{BY, Pull, Trial, at, batch, mark, next, observation, person};
use crate::plan::PersonId;
use crate::plan::records::{
    ConsentRecord, ConsentToLookAt, ConsentsUpdate, KeptConsent, KeptStudy, KnownPatient, ScopesSeen,
};
use crate::plan::state::PurgeReason;
use crate::warehouse::Warehouse;
use crate::warehouse::place::OtherServer;
use crate::warehouse::pull::PullOutcome;
use crate::warehouse::service::{KnownProblem, NamedPatient, ServiceNote};

fn study() -> Arc<str> {
    "study".into()
}

fn consent(person: &PersonId, expires: i64) -> KeptConsent {
    let record = ConsentRecord { id: Some("21".to_owned()), consented: true, expires_at: Some(at(expires)) };
    KeptConsent { person: person.clone(), study: study(), record, seen_at: at(10) }
}

fn reading(put: Vec<KeptConsent>) -> ConsentsUpdate {
    let note = KeptStudy {
        study: study(),
        consent_type: "FUTURE_DATA_USE".to_owned(),
        read_at: Some(at(10)),
        failing_since: None,
        problem: None,
        patients: Some(2),
    };
    ConsentsUpdate { studies: vec![note], seen: vec![study()], put, ..ConsentsUpdate::default() }
}

pub(super) async fn the_last_answer_is_kept_until_the_next_and_goes_with_a_purge<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna", "ben"]).await;
    let [anna, ben] = ["anna", "ben"].map(person);
    assert!(!trial.warehouse().has_consents().await.unwrap());
    let first = reading(vec![consent(&anna, 500), consent(&ben, 600)]);
    trial.warehouse().note_consents(first.clone(), at(10)).await.unwrap();
    trial.reopen();
    assert!(trial.warehouse().has_consents().await.unwrap());
    let kept = trial.warehouse().consents().await.unwrap();
    assert_eq!((&kept.rows, &kept.studies), (&first.put, &first.studies));
    assert_eq!(kept.known.len(), 2);

    // A row that is left as it was keeps its time; the others were seen now.
    let again = ConsentsUpdate { put: vec![consent(&ben, 600)], ..reading(Vec::new()) };
    trial.warehouse().note_consents(again, at(20)).await.unwrap();
    let seen = |kept: &[KeptConsent]| kept.iter().map(|row| row.seen_at).collect::<Vec<_>>();
    assert_eq!(seen(&trial.warehouse().consents().await.unwrap().rows), [at(20), at(10)]);

    trial.pull(&ben, &[observation(1)], at(30)).await;
    trial.warehouse().purge(&ben, PurgeReason::ConsentRevoked, BY, at(40)).await.unwrap().unwrap();
    let gone = ConsentsUpdate { gone: vec![(study(), anna.clone())], ..ConsentsUpdate::default() };
    trial.warehouse().note_consents(gone, at(50)).await.unwrap();
    assert!(trial.warehouse().consents().await.unwrap().rows.is_empty());

    trial.warehouse().note_consents(first, at(60)).await.unwrap();
    let forgotten = ConsentsUpdate { forgotten: vec![study()], ..ConsentsUpdate::default() };
    trial.warehouse().note_consents(forgotten, at(70)).await.unwrap();
    assert!(!trial.warehouse().has_consents().await.unwrap());
    assert!(trial.warehouse().consents().await.unwrap().rows.is_empty());
}

pub(super) async fn of_who_withdraws_before_anything_is_stored_nothing_is_kept<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    trial.warehouse().note_consents(reading(vec![consent(&anna, 500)]), at(10)).await.unwrap();
    // She was held before, and somebody was told of it.
    let told = NamedPatient { person: anna.clone(), name: "label-anna".to_owned() };
    let (kind, since, told_at) = ("held".to_owned(), at(12), at(12));
    let problem = KnownProblem { kind, since, told_at, text: None, patients: vec![told] };
    let note = ServiceNote { well_end: None, cycles: Vec::new(), problems: vec![problem] };
    trial.warehouse().remember(note).await.unwrap();

    let refused = Pull::full(&anna, at(20)).ended(PullOutcome::Revoked, None);
    assert_eq!(trial.warehouse().revoke(refused, at(21), at(22)).await.unwrap(), None);
    assert!(trial.warehouse().consents().await.unwrap().rows.is_empty());
    let problems = trial.warehouse().recall().await.unwrap().problems;
    assert!(problems.iter().all(|problem| problem.patients.is_empty()), "{problems:?}");
    trial.assert_sound();
}

pub(super) async fn that_a_consent_has_ended_outlives_the_purge<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let [anna, new] = ["anna", "new"].map(person);
    trial.pull(&anna, &[observation(1)], at(10)).await;
    let ended = |persons: &[&PersonId]| ConsentsUpdate {
        ended: persons.iter().map(|person| (*person).clone()).collect(),
        ..ConsentsUpdate::default()
    };
    trial.warehouse().note_consents(ended(&[&anna, &new]), at(20)).await.unwrap();
    trial.warehouse().note_consents(ended(&[&anna]), at(30)).await.unwrap();
    // The first of the row, and of somebody whom nobody knew as well.
    for person in [&anna, &new] {
        assert_eq!(trial.checkpoint(person).await.consent_ended_at, Some(at(20)));
    }
    trial.warehouse().purge(&anna, PurgeReason::ConsentRevoked, BY, at(40)).await.unwrap().unwrap();
    assert_eq!(trial.checkpoint(&anna).await.consent_ended_at, Some(at(20)));
    let known = trial.warehouse().consents().await.unwrap().known;
    let settled = KnownPatient { is_settled: true, consent_ended_at: Some(at(20)) };
    assert_eq!(known[&anna], settled);
    assert!(!known[&new].is_settled);

    let open = ConsentsUpdate { open: vec![anna.clone()], ..ConsentsUpdate::default() };
    trial.warehouse().note_consents(open, at(50)).await.unwrap();
    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!((checkpoint.consent_ended_at, checkpoint.last_asked_at), (None, None), "asked at once");
    trial.assert_sound();
}

pub(super) async fn a_consent_that_lets_through_something_else_asks_for_a_full_pull<C: Candidate>() {
    let trial = Trial::<C>::with(["anna", "ben"]).await;
    let [anna, ben] = ["anna", "ben"].map(person);
    let put = vec![consent(&anna, 500), consent(&ben, 500)];
    trial.warehouse().note_consents(reading(put.clone()), at(10)).await.unwrap();
    for person in [&anna, &ben] {
        trial.pull(person, &[observation(1)], at(20)).await;
        let mut unfinished = Pull::full(person, at(30));
        let rows = [observation(2)];
        trial.store(&mut unfinished, batch(&rows, next(&rows, mark(1, 1, 1))), at(31)).await;
    }
    let look = |person: &PersonId| ConsentToLookAt {
        person: person.clone(),
        study: study(),
        record_id: "21".to_owned(),
    };
    let to_look_at = async |most| trial.warehouse().consents_to_look_at(most).await.unwrap();
    assert_eq!(to_look_at(1).await, [look(&anna)]);
    let seen = |person: &PersonId, scopes| ScopesSeen { person: person.clone(), study: study(), scopes };
    let note = async |seen: Vec<ScopesSeen>, now| trial.warehouse().note_scopes(seen, now).await.unwrap();
    assert_eq!(note(vec![seen(&anna, Some(u64::MAX))], at(40)).await, []);
    // Who was never looked at comes first.
    assert_eq!(to_look_at(9).await, [look(&ben), look(&anna)]);
    assert_eq!(note(vec![seen(&anna, Some(u64::MAX)), seen(&ben, Some(2))], at(50)).await, []);
    assert_eq!(note(vec![seen(&anna, None)], at(51)).await, [], "one that does not say changes nothing");
    assert_eq!(trial.checkpoint(&anna).await.watermark, Some(at(20)));

    assert_eq!(
        note(vec![seen(&anna, Some(1)), seen(&ben, Some(2))], at(60)).await,
        std::slice::from_ref(&anna)
    );
    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!((checkpoint.watermark, checkpoint.unfinished), (None, None));
    assert!(trial.warehouse().unfinished_walks(&anna).await.unwrap().is_empty());
    assert!(trial.checkpoint(&ben).await.unfinished.is_some());
    // Another record is looked at soon, and what it lets through is held against the one before.
    let mut renewed = consent(&ben, 900);
    renewed.record.id = Some("22".to_owned());
    trial.warehouse().note_consents(reading(vec![renewed]), at(70)).await.unwrap();
    assert_eq!(to_look_at(1).await[0].record_id, "22");
    assert_eq!(note(vec![seen(&ben, Some(3))], at(80)).await, [ben]);
    trial.assert_sound();
}

pub(super) async fn a_consent_that_runs_out_is_told_once_a_day<C: Candidate>() {
    const DAY: i64 = 24 * 3600;
    let trial = Trial::<C>::with(["anna", "ben", "cora"]).await;
    let [anna, ben, cora] = ["anna", "ben", "cora"].map(person);
    let mut for_ever = consent(&cora, 0);
    for_ever.record.expires_at = None;
    let mut other = consent(&ben, 3 * DAY);
    other.study = "another".into();
    let mut update = reading(vec![consent(&anna, DAY), consent(&ben, DAY), other, for_ever]);
    let note = KeptStudy { study: "another".into(), ..update.studies[0].clone() };
    update.studies.push(note);
    trial.warehouse().note_consents(update, at(10)).await.unwrap();
    let tell = async |now, until| trial.warehouse().tell_expiring(at(until), 9, at(now)).await.unwrap();
    assert!(tell(20, DAY - 1).await.is_none());
    let told = tell(30, DAY).await.unwrap();
    assert_eq!((told.total, told.shown[0].name.as_str()), (1, "label-anna"), "the other's lasts longer");
    assert!(tell(40, 4 * DAY).await.is_none());
    assert!(tell(30 + DAY, DAY).await.is_none(), "it has run out");
    let told = tell(30 + DAY, 4 * DAY).await.unwrap();
    assert_eq!(told.shown[0].name, "label-ben");
    let shown = trial.reader().expiring_consents(at(20), at(4 * DAY), 1).unwrap();
    assert_eq!((shown.total, shown.shown.len()), (2, 1));
}

pub(super) async fn a_rehearsal_of_a_reading_says_the_same_and_keeps_nothing<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna", "ben", "cora"]).await;
    let [anna, ben, cora] = ["anna", "ben", "cora"].map(person);
    trial.pull(&anna, &[observation(1)], at(10)).await;
    let ended = ConsentsUpdate { ended: vec![cora.clone()], ..reading(vec![consent(&anna, 500)]) };
    trial.warehouse().note_consents(ended, at(20)).await.unwrap();
    let seen = |scopes| vec![ScopesSeen { person: anna.clone(), study: study(), scopes: Some(scopes) }];
    trial.warehouse().note_scopes(seen(1), at(30)).await.unwrap();
    let before = trial.kept();
    trial.close();

    let update =
        || ConsentsUpdate { ended: vec![ben.clone()], open: vec![cora.clone()], ..reading(Vec::new()) };
    let mut found = Vec::new();
    for is_rehearsal in [true, false] {
        let place = trial.candidate.place();
        let warehouse = if is_rehearsal {
            Warehouse::rehearse(place, OtherServer::Refuse).unwrap()
        } else {
            assert_eq!(trial.kept(), before);
            Warehouse::open(place, OtherServer::Refuse, at(40)).unwrap()
        };
        let kept = warehouse.consents().await.unwrap();
        warehouse.note_consents(update(), at(40)).await.unwrap();
        let changed = warehouse.note_scopes(seen(2), at(50)).await.unwrap();
        let mut checkpoints = Vec::new();
        for person in [&anna, &ben, &cora] {
            checkpoints.push(warehouse.claim(person).await.unwrap().unwrap().checkpoint);
        }
        assert_eq!((changed, checkpoints[0].watermark), (vec![anna.clone()], None));
        assert_eq!(checkpoints[1].consent_ended_at, Some(at(40)));
        assert_eq!(checkpoints[2].consent_ended_at, None);
        found.push((kept.rows, kept.studies, checkpoints));
    }
    assert_eq!(found[0], found[1]);
}
