//! What a complete full pull did not see.

use super::Candidate;
use super::trial::{Pull, Trial, at, batch, condition, end, end_with_sweep, mark, next, observation, person};
use crate::plan::row::{Row, row_of};
use crate::plan::state::PatientState;
use crate::plan::{TypeFilter, stamp};
use crate::warehouse::page::{SweepOutcome, Tally};

fn observations(count: u32) -> Vec<Row> {
    (1..=count).map(observation).collect()
}

pub(super) async fn what_no_walk_saw_is_marked_and_what_comes_back_is_restored<C: Candidate>() {
    let trial = Trial::<C>::with(["anna", "ben"]).await;
    let (anna, ben) = (person("anna"), person("ben"));
    let rows = observations(3);
    trial.pull(&anna, &rows, at(10)).await;
    trial.pull(&ben, &rows, at(11)).await;

    let mut pull = Pull::full(&anna, at(20));
    let page = batch(&rows[..2], end_with_sweep(&[&rows[..2], &rows[..2]], 1));
    let stored = trial.store(&mut pull, page, at(21)).await;

    assert_eq!(stored.sweep, SweepOutcome::Done);
    assert_eq!(stored.tally, Tally { unchanged: 2, deleted: 1, ..Tally::default() });
    let resources = trial.kept().resources(&anna);
    assert_eq!(resources["Observation/3"].deleted_at, Some(at(21)));
    assert_eq!(resources["Observation/3"].resource, rows[2].resource);
    assert_eq!(trial.kept().live(&ben).len(), 3, "another patient's");
    assert_eq!(trial.kept().pulls(&anna)[1]["deleted"], "1");
    trial.assert_sound();

    let mut later = Pull::full(&anna, at(30));
    let stored = trial.store(&mut later, batch(&rows, end_with_sweep(&[&rows, &rows], 1)), at(31)).await;
    assert_eq!(stored.tally, Tally { updated: 1, unchanged: 2, ..Tally::default() });
    let back = &trial.kept().resources(&anna)["Observation/3"];
    assert_eq!((back.deleted_at, back.first_seen_at, back.changed_at), (None, at(10), at(31)));
    trial.assert_sound();
}

pub(super) async fn what_came_in_its_place_hides_nothing_that_vanished<C: Candidate>() {
    let trial = Trial::<C>::with(["anna", "ben", "carl"]).await;
    let anna = person("anna");
    let rows = observations(4);
    trial.pull(&person("ben"), &rows, at(9)).await;
    trial.pull(&anna, &rows[..3], at(10)).await;

    // As many as are stored, one of them new: one has vanished.
    let mut pull = Pull::full(&anna, at(20));
    let page = batch(&rows[1..], end_with_sweep(&[&rows[1..], &rows[1..]], 1));
    assert_eq!(trial.store(&mut pull, page, at(21)).await.tally.deleted, 1);
    assert_eq!(trial.kept().live(&anna), ["Observation/2", "Observation/3", "Observation/4"]);

    // As many came as are stored; one of them has no key to be stored under.
    let named = |name, id| row_of(name, &format!(r#"{{"resourceType":"Observation","id":"{id}"}}"#)).unwrap();
    let rows = [named("n#a", "c"), named("n", "b"), observation(4)];
    let carl = person("carl");
    trial.pull(&carl, &rows, at(10)).await;
    let came = [rows[0].clone(), rows[1].clone(), named("n", "a")];
    let mut pull = Pull::full(&carl, at(20));
    let stored = trial.store(&mut pull, batch(&came, end_with_sweep(&[&came, &came], 1)), at(21)).await;
    assert_eq!((stored.tally.quarantined, stored.tally.deleted), (1, 1));
    assert_eq!(trial.kept().live(&carl), ["n", "n#a"]);
    trial.assert_sound();
}

pub(super) async fn a_walk_of_several_pages_is_repeated_before_anything_is_marked<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let rows = observations(4);
    trial.pull(&anna, &rows, at(10)).await;

    let mut pull = Pull::full(&anna, at(20));
    trial.store(&mut pull, batch(&rows[..1], next(&rows[..1], mark(1, 1, 1))), at(21)).await;
    let page = batch(&rows[1..2], end_with_sweep(&[&rows[..2]], 2));
    let stored = trial.store(&mut pull, page, at(22)).await;
    assert_eq!(stored.sweep, SweepOutcome::WalkAgain);
    assert_eq!(trial.kept().live(&anna).len(), 4);
    assert_eq!(trial.checkpoint(&anna).await.watermark, Some(at(10)), "the pull is not over");
    let unfinished = trial.checkpoint(&anna).await.unfinished.unwrap();
    assert_eq!(unfinished.next_url, None);
    assert_eq!(trial.warehouse().unfinished_walks(&anna).await.unwrap().len(), 1);

    // The second walk saw one that the first had missed.
    trial.store(&mut pull, batch(&rows[..1], next(&rows[..1], mark(2, 1, 1))), at(23)).await;
    let page = batch(&rows[2..3], end_with_sweep(&[&rows[..2], &[rows[0].clone(), rows[2].clone()]], 2));
    let stored = trial.store(&mut pull, page, at(24)).await;
    assert_eq!(stored.sweep, SweepOutcome::Done);
    assert_eq!(stored.tally.deleted, 1);
    assert_eq!(trial.kept().live(&anna), ["Observation/1", "Observation/2", "Observation/3"]);
    assert_eq!(trial.checkpoint(&anna).await.unfinished, None);
}

pub(super) async fn a_record_that_is_gone_at_once_is_guarded_for_a_day<C: Candidate>() {
    const DAY: i64 = 24 * 3_600;
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let rows = observations(30);
    trial.pull(&anna, &rows, at(10)).await;
    let sweep = async |now: i64| {
        let mut pull = Pull::full(&anna, at(now));
        trial
            .store(&mut pull, batch(&rows[..1], end_with_sweep(&[&rows[..1], &rows[..1]], 1)), at(now + 1))
            .await
    };

    assert_eq!(sweep(20).await.sweep, SweepOutcome::Guarded(29));
    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!(checkpoint.sweep_guarded_at, Some(at(21)));
    assert_eq!(checkpoint.state, PatientState::Active);
    assert_eq!(checkpoint.watermark, Some(at(0)), "the pull is complete all the same");
    assert_eq!(trial.kept().live(&anna).len(), 30);
    let pulls = trial.kept().pulls(&anna);
    assert!(pulls[1]["error"].contains("29 resources were gone at once"), "{pulls:?}");
    assert_eq!(pulls[1]["outcome"], "ok");

    // Guarded since the first time, not since the last.
    assert_eq!(sweep(DAY - 10).await.sweep, SweepOutcome::Guarded(29));
    assert_eq!(trial.checkpoint(&anna).await.sweep_guarded_at, Some(at(21)));
    let swept = sweep(DAY + 30).await;
    assert_eq!((swept.sweep, swept.tally.deleted), (SweepOutcome::Done, 29));
    assert_eq!(trial.checkpoint(&anna).await.sweep_guarded_at, None);
    assert_eq!(trial.kept().live(&anna), ["Observation/1"]);
    trial.assert_sound();
}

pub(super) async fn types_that_were_not_asked_for_are_not_swept<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let rows = [observation(1), observation(2), condition(1)];
    trial.pull(&anna, &rows, at(10)).await;

    let mut pull = Pull::full(&anna, at(20));
    pull.head.types = TypeFilter::parse("Observation");
    let stored =
        trial.store(&mut pull, batch(&rows[..1], end_with_sweep(&[&rows[..1], &rows[..1]], 1)), at(21)).await;

    assert_eq!(stored.tally.deleted, 1);
    assert_eq!(trial.kept().live(&anna), ["Condition/1", "Observation/1"]);
    assert_eq!(trial.checkpoint(&anna).await.types, TypeFilter::parse("Observation"));

    // Until a sweep nobody knows what vanished of a type that is gained.
    let looked_at = || trial.kept().table("checkpoint")[0].get("deletions_seen_at").cloned();
    assert_eq!(looked_at(), Some(stamp(at(21))));
    let observations = batch(&rows[..1], end(&rows[..1], at(30)));
    pull = Pull::full(&anna, at(30));
    pull.head.types = TypeFilter::parse("Observation");
    trial.store(&mut pull, observations, at(31)).await;
    assert_eq!(looked_at(), Some(stamp(at(21))));
    pull = Pull::full(&anna, at(40));
    trial.store(&mut pull, batch(&rows, end(&rows, at(40))), at(41)).await;
    assert!(looked_at().is_none_or(|time| time != stamp(at(21))), "{:?}", looked_at());
}
