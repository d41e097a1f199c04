//! What a purge takes, what it leaves, and how it is logged.

use std::collections::BTreeMap;

use super::Candidate;
use super::trial::{
    BY, Pull, Trial, at, batch, condition, kept, listed, mark, next, observation, person, quarantined,
    setback,
};
use crate::plan::checkpoint::PastPurge;
use crate::plan::leaver::ListedBy;
use crate::plan::stamp;
use crate::plan::state::{Event, HeldWhy, PatientState, PurgeReason};
use crate::warehouse::patient::RosterReading;
use crate::warehouse::pull::{Lease, PullOutcome, Setback};
use crate::warehouse::purge::{Erased, Scrub, Scrubbed};

/// What keeps that there was a patient, and what became of it.
const STAYS: [&str; 2] = ["checkpoint", "purge_log"];

/// What says how a patient was pulled: it goes, and is not counted among the rows of the record.
const UNCOUNTED: [&str; 4] = ["live_resources", "pull", "seen", "walk"];

/// Gives a patient a row in every table that can have one.
async fn fill<C: Candidate>(trial: &Trial<C>, id: &str) {
    let person = person(id);
    let rows = [observation(1), condition(1)];
    let mut pull = Pull::full(&person, at(10));
    let mut page = batch(&rows, next(&rows, mark(1, 1, 2)));
    page.quarantined.push(quarantined("#1"));
    trial.store(&mut pull, page, at(11)).await;
    let failed = pull.ended(PullOutcome::Failed, Some(setback(Event::PullFailed)));
    trial.end(failed, at(12)).await;
}

pub(super) async fn a_purge_leaves_no_row_but_what_is_known_about_the_patient<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna", "ben"]).await;
    let (anna, ben) = (person("anna"), person("ben"));
    fill(&trial, "anna").await;
    fill(&trial, "ben").await;
    let before = trial.kept();
    let of_ben = before.rows_by_table(&ben);
    let mut gone: BTreeMap<String, u64> = before.rows_by_table(&anna);
    gone.retain(|table, _| !STAYS.contains(&table.as_str()));
    for table in
        ["observation", "condition", "observations", "codings", "conditions", "quarantine", "walk", "seen"]
    {
        assert!(gone.contains_key(table), "the trial has no row in {table}: {gone:?}");
    }

    gone.retain(|table, _| !UNCOUNTED.contains(&table.as_str()));

    let purged = trial.warehouse().purge(&anna, PurgeReason::Operator, BY, at(20)).await.unwrap().unwrap();
    assert_eq!(purged.name, "label-anna");
    assert_eq!(purged.erased.rows_by_table, gone);
    trial.reopen();

    let after = trial.kept();
    let left = after.rows_by_table(&anna);
    assert_eq!(left.keys().map(String::as_str).collect::<Vec<_>>(), STAYS);
    assert_eq!(after.rows_by_table(&ben), of_ben);
    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!(checkpoint.state, PatientState::Paused);
    assert_eq!(checkpoint.label, None);
    let past = PastPurge { at: at(20), reason: PurgeReason::Operator };
    assert_eq!(checkpoint.purged, Some(past));
    assert_eq!((checkpoint.watermark, checkpoint.last_full_at), (None, None));
    assert_eq!((checkpoint.failures, checkpoint.next_attempt_at), (0, None));
    assert_eq!((checkpoint.unfinished, checkpoint.holds_rows), (None, false));
    let [line] = &trial.reader().purges(None).unwrap()[..] else { panic!("one purge") };
    assert_eq!((line.person_id.as_str(), line.reason.as_str()), ("anna", "operator"));
    assert_eq!(line.purged_at, stamp(at(20)));
    assert_eq!(line.rows_by_table, gone);
    assert!(trial.reader().purges(Some("ben")).unwrap().is_empty());
    trial.assert_sound();
}

pub(super) async fn each_reason_leads_to_its_state<C: Candidate>() {
    let trial = Trial::<C>::with(["anna", "ben", "cora"]).await;
    for id in ["anna", "ben", "cora"] {
        fill(&trial, id).await;
    }
    let [anna, ben, cora] = ["anna", "ben", "cora"].map(person);

    trial.warehouse().purge(&anna, PurgeReason::Operator, BY, at(20)).await.unwrap().unwrap();
    trial.warehouse().purge(&ben, PurgeReason::Roster, BY, at(21)).await.unwrap().unwrap();
    let refused = Pull::full(&cora, at(22)).ended(PullOutcome::Revoked, None);
    let erased = trial.warehouse().revoke(refused, at(23), at(24)).await.unwrap().unwrap();

    assert_eq!(erased.rows_by_table["observation"], 1);
    assert_eq!(trial.checkpoint(&anna).await.state, PatientState::Paused);
    assert_eq!(trial.checkpoint(&ben).await.state, PatientState::New);
    assert_eq!(trial.checkpoint(&cora).await.state, PatientState::Revoked);
    assert_eq!(trial.checkpoint(&cora).await.last_asked_at, Some(at(24)));
    let [last] = &trial.kept().pulls(&cora)[..] else { panic!("one pull: that of the asking") };
    assert_eq!((last["outcome"].as_str(), last["finished_at"].clone()), ("revoked", stamp(at(24))));
    let [line] = &trial.reader().purges(Some("cora")).unwrap()[..] else { panic!("one purge") };
    assert_eq!(line.reason, "consent_revoked");
    assert_eq!((line.confirmed_at.clone(), line.purged_at.clone()), (stamp(at(23)), stamp(at(24))));
}

pub(super) async fn without_rows_there_is_nothing_to_log_but_an_operators_word<C: Candidate>() {
    let trial = Trial::<C>::with(["anna", "ben", "cora"]).await;
    let [anna, ben, cora] = ["anna", "ben", "cora"].map(person);

    let refused = Pull::full(&anna, at(1)).ended(PullOutcome::Revoked, None);
    assert_eq!(trial.warehouse().revoke(refused, at(2), at(3)).await.unwrap(), None);
    assert_eq!(trial.checkpoint(&anna).await.state, PatientState::Revoked);
    assert_eq!(trial.kept().pulls(&anna)[0]["outcome"], "revoked");
    assert!(trial.warehouse().purge(&ben, PurgeReason::Roster, BY, at(4)).await.unwrap().is_none());
    assert!(
        trial
            .warehouse()
            .purge(&person("stranger"), PurgeReason::Operator, BY, at(5))
            .await
            .unwrap()
            .is_none()
    );
    assert!(trial.reader().purges(None).unwrap().is_empty());

    let purged = trial.warehouse().purge(&cora, PurgeReason::Operator, BY, at(6)).await.unwrap().unwrap();
    assert_eq!(purged.erased, Erased::default());
    assert_eq!(trial.checkpoint(&cora).await.state, PatientState::Paused);
    assert_eq!(trial.reader().purges(None).unwrap().len(), 1);
}

pub(super) async fn a_roster_that_lacks_a_patient_for_a_while_does_not_undo_an_operators_purge<
    C: Candidate,
>() {
    const DAY: i64 = 24 * 3600;
    let trial = Trial::<C>::with(["anna", "ben", "cora"]).await;
    let [anna, ben, cora] = ["anna", "ben", "cora"].map(person);
    for (at_second, one) in [(1, &anna), (2, &ben)] {
        trial.warehouse().purge(one, PurgeReason::Operator, BY, at(at_second)).await.unwrap().unwrap();
    }

    trial.begin_cycle(&["ben"], at(10)).await;
    // Purged while a reading lacks it.
    trial.warehouse().purge(&cora, PurgeReason::Operator, BY, at(11)).await.unwrap().unwrap();
    trial.begin_cycle(&["ben"], at(DAY + 9)).await;
    trial.begin_cycle(&["anna", "ben", "cora"], at(DAY + 10)).await;
    for one in [&anna, &ben, &cora] {
        assert_eq!(trial.checkpoint(one).await.state, PatientState::Paused, "{one}");
    }

    // Who has left it for good, and is listed again, is new.
    for seconds in [20, DAY + 20] {
        trial.begin_cycle(&["anna", "ben"], at(DAY + seconds)).await;
    }
    trial.begin_cycle(&["anna", "ben", "cora"], at(2 * DAY + 30)).await;
    assert_eq!(trial.checkpoint(&anna).await.state, PatientState::Paused);
    assert_eq!(trial.checkpoint(&cora).await.state, PatientState::New);
}

pub(super) async fn records_that_lack_a_patient_never_undo_an_operators_purge<C: Candidate>() {
    const DAY: i64 = 24 * 3600;
    let trial = Trial::<C>::with(["anna"]).await;
    let (anna, ben) = (person("anna"), person("ben"));
    let begin = async |ids: &[&str], now| {
        let files = RosterReading::of_files(ids.iter().map(|id| listed(id)).collect());
        let by = ids.iter().map(|id| if *id == "ben" { ListedBy::Study } else { ListedBy::File }).collect();
        trial.warehouse().begin_cycle(RosterReading { by, ..files }, now).await.unwrap();
    };
    begin(&["anna", "ben"], at(1)).await;
    for one in [&anna, &ben] {
        trial.warehouse().purge(one, PurgeReason::Operator, BY, at(2)).await.unwrap().unwrap();
    }
    for seconds in [10, DAY + 20, 2 * DAY] {
        begin(&["cora"], at(seconds)).await;
    }
    begin(&["anna", "ben"], at(2 * DAY + 10)).await;
    assert_eq!(trial.checkpoint(&ben).await.state, PatientState::Paused);
    // Whoever has taken a patient out of a file, and put it back a day later, has done so on purpose.
    assert_eq!(trial.checkpoint(&anna).await.state, PatientState::New);
}

pub(super) async fn a_roster_that_cannot_be_read_does_not_undo_an_operators_purge<C: Candidate>() {
    const DAY: i64 = 24 * 3600;
    let trial = Trial::<C>::with(["anna", "ben"]).await;
    let [anna, ben] = ["anna", "ben"].map(person);
    trial.warehouse().purge(&anna, PurgeReason::Operator, BY, at(1)).await.unwrap().unwrap();
    for seconds in [10, 20] {
        trial.begin_cycle(&["ben"], at(seconds)).await;
    }
    // It stands in for one that would list her again.
    let outdated = RosterReading { is_new: false, ..RosterReading::of_files(vec![listed("ben")]) };
    trial.warehouse().begin_cycle(outdated, at(DAY + 30)).await.unwrap();
    // Nor does a purge forget her that comes between two readings.
    trial.warehouse().purge(&ben, PurgeReason::Operator, BY, at(DAY + 31)).await.unwrap().unwrap();
    trial.begin_cycle(&["anna", "ben"], at(DAY + 40)).await;
    assert_eq!(trial.checkpoint(&anna).await.state, PatientState::Paused);
}

pub(super) async fn who_is_pulled_again_after_an_operators_purge_does_not_wait_once_a_page_is_stored<
    C: Candidate,
>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    fill(&trial, "anna").await;
    trial.warehouse().purge(&anna, PurgeReason::Operator, BY, at(20)).await.unwrap().unwrap();

    let rows = [observation(1)];
    let mut pull = Pull::full(&anna, at(30));
    trial.store(&mut pull, batch(&rows, next(&rows, mark(1, 1, 1))), at(31)).await;
    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!((checkpoint.state, checkpoint.holds_rows), (PatientState::New, true));
}

pub(super) async fn who_is_held_is_told_for_an_operator_to_purge<C: Candidate>() {
    let trial = Trial::<C>::with(["anna", "ben", "cora"]).await;
    let [anna, ben, cora] = ["anna", "ben", "cora"].map(person);
    fill(&trial, "anna").await;
    fill(&trial, "ben").await;
    for (held, now) in [(&anna, at(20)), (&cora, at(21))] {
        let answer = Setback { was_answered: true, ..setback(Event::Held(HeldWhy::Many)) };
        kept(trial.warehouse().note_answer(held, answer, now).await.unwrap());
    }
    assert!(!trial.kept().live(&anna).is_empty(), "held is kept");

    let held = trial.warehouse().held().await.unwrap();
    assert_eq!(held.iter().map(Lease::person).collect::<Vec<_>>(), [&anna, &cora]);
    for lease in held {
        let (person, reason) = (lease.person(), PurgeReason::Operator);
        trial.warehouse().purge(person, reason, BY, at(30)).await.unwrap().unwrap();
    }

    assert!(trial.warehouse().held().await.unwrap().is_empty());
    assert!(trial.kept().live(&anna).is_empty());
    assert_eq!(trial.checkpoint(&ben).await.state, PatientState::Failing);
    let lines = trial.reader().purges(None).unwrap();
    assert_eq!(lines.len(), 2);
    let log = trial.kept().table("purge_log").to_vec();
    assert!(log.iter().all(|line| line["by"] == BY), "{log:?}");
    let refused: Vec<_> = log.iter().map(|line| line["refused_at"].clone()).collect();
    assert_eq!(refused, [stamp(at(20)), stamp(at(21))]);
}

pub(super) async fn a_purged_patient_that_is_no_longer_listed_is_forgotten<C: Candidate>() {
    let trial = Trial::<C>::with(["anna", "ben"]).await;
    let anna = person("anna");
    fill(&trial, "anna").await;
    trial.warehouse().purge(&anna, PurgeReason::Roster, BY, at(20)).await.unwrap().unwrap();
    trial.begin_cycle(&["anna", "ben"], at(21)).await;
    assert_eq!(trial.checkpoint(&anna).await.label, None, "the label is not written down again");

    let leases = trial.begin_cycle(&["ben"], at(30)).await;

    assert_eq!(leases.len(), 1);
    assert_eq!(trial.kept().rows_by_table(&anna).into_keys().collect::<Vec<_>>(), ["purge_log"]);
}

pub(super) async fn withdrawals_of_a_day_are_counted_together<C: Candidate>() {
    const DAY: i64 = 24 * 3_600;
    let trial = Trial::<C>::with(["anna", "ben", "cora"]).await;
    for id in ["anna", "ben", "cora"] {
        fill(&trial, id).await;
    }
    let refused = Pull::full(&person("anna"), at(20)).ended(PullOutcome::Revoked, None);
    trial.warehouse().revoke(refused, at(20), at(20)).await.unwrap().unwrap();
    trial.warehouse().purge(&person("ben"), PurgeReason::Operator, BY, at(20)).await.unwrap().unwrap();

    let counted = trial.warehouse().withdrawals(at(DAY)).await.unwrap();
    assert_eq!((counted.purged_lately, counted.holders), (1, 1));
    let counted = trial.warehouse().withdrawals(at(DAY + 30)).await.unwrap();
    assert_eq!((counted.purged_lately, counted.holders), (0, 1));
}

pub(super) async fn who_was_purged_while_the_roster_lacked_it_is_counted_with_those_who_left<C: Candidate>() {
    const DAY: i64 = 24 * 3_600;
    let trial = Trial::<C>::with(["anna", "ben", "cora", "dan"]).await;
    for id in ["anna", "ben", "cora", "dan"] {
        fill(&trial, id).await;
    }
    let purge = async |id: &str, reason, now| {
        trial.warehouse().purge(&person(id), reason, BY, at(now)).await.unwrap().unwrap();
    };
    let counted = async |missing_since, now| {
        let departures = trial.warehouse().departures(at(missing_since), at(now)).await.unwrap();
        (departures.purged_lately, departures.holders)
    };
    // Purged first, and taken off the roster for that.
    purge("dan", PurgeReason::Operator, 20).await;
    trial.begin_cycle(&["cora", "eva"], at(30)).await;
    assert_eq!(counted(30, 35).await, (0, 3));
    purge("anna", PurgeReason::ConsentRevoked, 40).await;
    assert_eq!(counted(30, 50).await, (1, 2));
    assert_eq!(counted(41, 50).await, (0, 2), "purged before they went missing");
    purge("cora", PurgeReason::ConsentRevoked, 55).await;
    assert_eq!(counted(30, 56).await, (1, 1), "it is on the roster");
    purge("ben", PurgeReason::Roster, 60).await;
    assert_eq!(counted(30, 70).await, (2, 0), "each counts once");
    assert_eq!(counted(61, 70).await, (1, 0));
    assert_eq!(counted(61, DAY + 60).await, (0, 0));
}

pub(super) async fn a_scrub_settles_every_purge_at_once<C: Candidate>() {
    let trial = Trial::<C>::with(["anna", "ben"]).await;
    assert_eq!(trial.warehouse().scrub(|| at(1)).await.unwrap(), Scrub::NothingToDo);
    assert_eq!(trial.warehouse().unscrubbed().await.unwrap(), None);
    for (id, now) in [("anna", at(20)), ("ben", at(21))] {
        fill(&trial, id).await;
        trial.warehouse().purge(&person(id), PurgeReason::Operator, BY, now).await.unwrap().unwrap();
    }
    assert_eq!(trial.warehouse().unscrubbed().await.unwrap(), Some(at(20)));
    assert_eq!(trial.warehouse().attention().await.unwrap().oldest_unscrubbed, Some(at(20)));
    assert!(trial.reader().status().unwrap().scrub_waits_for.is_some());

    let scrubbed = trial.warehouse().scrub(|| at(30)).await.unwrap();
    assert!(matches!(scrubbed, Scrub::Done(Scrubbed { purges: 2, .. })), "{scrubbed:?}");

    assert_eq!(trial.warehouse().unscrubbed().await.unwrap(), None);
    let lines = trial.reader().purges(None).unwrap();
    assert!(lines.iter().all(|line| line.scrubbed_at == Some(stamp(at(30)))), "{lines:?}");
    assert!(trial.reader().status().unwrap().scrub_waits_for.is_none());
}

pub(super) async fn a_patient_that_was_purged_is_pulled_like_anyone_new<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    fill(&trial, "anna").await;
    let refused = Pull::full(&anna, at(20)).ended(PullOutcome::Revoked, None);
    trial.warehouse().revoke(refused, at(21), at(22)).await.unwrap().unwrap();

    // However its first pull ends, it has rows again.
    fill(&trial, "anna").await;
    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!((checkpoint.state, checkpoint.holds_rows), (PatientState::Failing, true));
    trial.assert_sound();
    let refused = Pull::full(&anna, at(20)).ended(PullOutcome::Revoked, None);
    trial.warehouse().revoke(refused, at(21), at(22)).await.unwrap().unwrap();

    trial.pull(&anna, &[observation(1)], at(30)).await;

    assert_eq!(trial.kept().live(&anna), ["Observation/1"]);
    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!((checkpoint.state, checkpoint.holds_rows), (PatientState::Active, true));
    assert_eq!(trial.kept().resources(&anna)["Observation/1"].first_seen_at, at(30));
    trial.assert_sound();
}
