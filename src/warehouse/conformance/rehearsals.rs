//! A rehearsal: the same answers, and no change.

use super::Candidate;
use super::trial::{
    BY, Pull, Trial, at, batch, end_with_sweep, everybody, kept, listed, observation, observation_that,
    person, setback,
};
use crate::plan::state::{Event, HeldWhy, PurgeReason};
use crate::warehouse::Warehouse;
use crate::warehouse::page::{PullProgress, SweepOutcome};
use crate::warehouse::patient::{CycleEnd, RosterReading};
use crate::warehouse::place::OtherServer;
use crate::warehouse::pull::PullOutcome;
use crate::warehouse::purge::Scrub;
use crate::warehouse::service::ServiceNote;

pub(super) async fn a_rehearsed_page_is_answered_as_it_would_be_stored<C: Candidate>() {
    let names = ["anna", "ben", "cora", "dan"];
    let mut trial = Trial::<C>::with(names).await;
    let stored: Vec<_> = (1..=30).map(observation).collect();
    for name in names {
        trial.pull(&person(name), &stored, at(10)).await;
    }
    let changed = [observation(1), observation_that(2, "is changed"), observation(31)];
    let twice: Vec<_> = changed.iter().chain(&changed).cloned().collect();
    let all_but_one: Vec<_> = (1..=29).map(observation).chain([observation(32)]).collect();
    // The rows of a page, and those that each walk saw, where the pull ends with it.
    // The rows of a page, in how many walks they were seen, where the pull ends with it, and its pages.
    let pages = [(&twice[..], 0, 1), (&changed, 2, 1), (&all_but_one, 2, 1), (&all_but_one, 1, 2)];
    let mut outcomes = Vec::new();
    for (name, (rows, walks, pages)) in names.into_iter().zip(pages) {
        let progress = || match walks {
            0 => PullProgress::Partial,
            walks => end_with_sweep(&vec![rows; walks], pages),
        };
        let page = || batch(rows, progress());
        let pull = Pull::full(&person(name), at(20));
        trial.close();
        let before = trial.kept();
        let rehearsal = Warehouse::rehearse(trial.candidate.place(), OtherServer::Refuse).unwrap();
        let rehearsed = rehearsal.store_page(&pull.head, pull.cost, page(), at(21)).await.unwrap();
        drop(rehearsal);
        assert_eq!(trial.kept(), before);
        trial.reopen();
        let stored = trial.warehouse().store_page(&pull.head, pull.cost, page(), at(21)).await.unwrap();
        let (rehearsed, stored) = (kept(rehearsed), kept(stored));
        assert_eq!((rehearsed.tally, rehearsed.sweep), (stored.tally, stored.sweep), "{name}");
        outcomes.push(stored.sweep);
    }
    let [done, again] = [SweepOutcome::Done, SweepOutcome::WalkAgain];
    assert_eq!(outcomes, [done, SweepOutcome::Guarded(28), done, again]);
}

pub(super) async fn a_rehearsal_answers_as_the_warehouse_would_and_changes_nothing<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna", "ben", "cora"]).await;
    let [anna, ben, dan] = ["anna", "ben", "dan"].map(person);
    for person in [&anna, &ben] {
        trial.pull(person, &[observation(1), observation(2), observation(3)], at(10)).await;
    }
    let before = trial.kept();
    trial.close();
    let rehearsal = Warehouse::rehearse(trial.candidate.place(), OtherServer::Refuse).unwrap();
    assert!(rehearsal.is_rehearsal());
    let reading = || RosterReading::of_files(["anna", "dan"].map(listed).to_vec());
    let taken = rehearsal.begin_cycle(reading(), at(20)).await.unwrap();
    let leases = everybody(&rehearsal).await;
    let page = || {
        let rows = [observation(1), observation_that(2, "is changed"), observation(4)];
        batch(&rows, end_with_sweep(&[&rows, &rows], 1))
    };
    let pull = Pull::full(&anna, at(20));
    let rehearsed = kept(rehearsal.store_page(&pull.head, pull.cost, page(), at(21)).await.unwrap());
    let purgeable = rehearsal.purge(&ben, PurgeReason::Operator, BY, at(22)).await.unwrap().unwrap();
    let new = Pull::full(&dan, at(23));
    let first = batch(&[observation(1)], PullProgress::Partial);
    let inserted = kept(rehearsal.store_page(&new.head, new.cost, first, at(24)).await.unwrap());
    assert_eq!(inserted.tally.inserted, 1);
    let failed = pull.ended(PullOutcome::Failed, Some(setback(Event::PullFailed)));
    kept(rehearsal.end_pull(failed, at(25)).await.unwrap());
    kept(rehearsal.note_answer(&anna, setback(Event::Held(HeldWhy::Many)), at(26)).await.unwrap());
    kept(rehearsal.restart_pull(&pull.head).await.unwrap());
    let refused = pull.ended(PullOutcome::Revoked, None);
    assert!(rehearsal.revoke(refused, at(27), at(28)).await.unwrap().is_some());
    assert_eq!(rehearsal.scrub(|| at(29)).await.unwrap(), Scrub::NothingToDo);
    rehearsal.attention().await.unwrap();
    let note = ServiceNote { well_end: Some(at(30)), ..ServiceNote::default() };
    rehearsal.remember(note).await.unwrap();
    let end = CycleEnd { now: at(30), keep_deleted: None, got_through: false };
    rehearsal.end_cycle(end).await.unwrap();
    drop(rehearsal);
    assert_eq!(trial.kept(), before);

    trial.reopen();
    let real = trial.warehouse();
    let really_taken = real.begin_cycle(reading(), at(20)).await.unwrap();
    assert_eq!((taken.missing, taken.knows_anybody), (really_taken.missing, true));
    let really = everybody(real).await;
    let checkpoints = |leases: &[crate::warehouse::pull::Lease]| -> Vec<_> {
        leases.iter().map(|lease| lease.checkpoint.clone()).collect()
    };
    assert_eq!(checkpoints(&leases), checkpoints(&really));
    let stored = kept(real.store_page(&pull.head, pull.cost, page(), at(21)).await.unwrap());
    assert_eq!((rehearsed.tally, rehearsed.sweep), (stored.tally, stored.sweep));
    assert_eq!((stored.tally.deleted, stored.sweep), (1, SweepOutcome::Done));
    let purged = real.purge(&ben, PurgeReason::Operator, BY, at(22)).await.unwrap().unwrap();
    assert_eq!((purgeable.name, purgeable.erased), (purged.name, purged.erased));
}

pub(super) async fn a_rehearsal_of_what_is_not_there_makes_nothing<C: Candidate>() {
    let candidate = C::new("https://api.example.org");
    let before = candidate.kept();
    let rehearsal = Warehouse::rehearse(candidate.place(), OtherServer::Refuse).unwrap();
    rehearsal.begin_cycle(RosterReading::of_files(vec![listed("anna")]), at(1)).await.unwrap();
    assert_eq!(everybody(&rehearsal).await.len(), 1);
    let pull = Pull::full(&person("anna"), at(2));
    let page = batch(&[observation(1)], PullProgress::Partial);
    let stored = kept(rehearsal.store_page(&pull.head, pull.cost, page, at(3)).await.unwrap());
    assert_eq!(stored.tally.inserted, 1);
    drop(rehearsal);
    assert_eq!(candidate.kept(), before);
}
