//! A cycle's two ends, the roster, and the server that a warehouse is filled from.

use std::time::Duration;

use super::Candidate;
use super::trial::{
    BY, Pull, Trial, at, batch, end, end_with_sweep, link, listed, mark, next, observation, person,
};
use crate::plan::PersonId;
use crate::plan::leaver::Missing;
use crate::plan::state::{PatientState, PurgeReason};
use crate::plan::verdict::{CycleVerdict, PatientCounts};
use crate::warehouse::Warehouse;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::page::Tally;
use crate::warehouse::patient::{CycleEnd, Forgotten, RosterReading};
use crate::warehouse::place::OtherServer;
use crate::warehouse::pull::Fenced;
use crate::warehouse::pull::Lease;
use crate::warehouse::service::{CYCLES_REMEMBERED, KnownProblem, NamedPatient, PastCycle, ServiceNote};

fn ids(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(|lease| lease.person().as_str()).collect()
}

pub(super) async fn a_cycle_begins_with_everybody_in_order_and_closes_what_a_kill_cut_off<C: Candidate>() {
    let mut trial = Trial::<C>::with(["cora", "anna", "ben"]).await;
    let anna = person("anna");
    let mut pull = Pull::full(&anna, at(10));
    let rows = [observation(1)];
    trial.store(&mut pull, batch(&rows, next(&rows, mark(1, 1, 1))), at(11)).await;
    trial.reopen();

    let leases = trial.begin_cycle(&["cora", "anna"], at(100)).await;

    assert_eq!(ids(&leases), ["anna", "ben", "cora"]);
    let listed: Vec<bool> = leases.iter().map(|lease| lease.checkpoint.listed).collect();
    assert_eq!(listed, [true, false, true]);
    let [cut_off] = &trial.kept().pulls(&anna)[..] else { panic!("one pull") };
    assert_eq!(cut_off["outcome"], "interrupted");
    assert_eq!(cut_off["finished_at"], crate::plan::stamp(at(100)));
    // Said of its row; where it goes on is untouched.
    let unfinished = trial.checkpoint(&anna).await.unfinished.unwrap();
    assert_eq!(unfinished.next_url, Some(link(2)));
    let end = CycleEnd { now: at(101), keep_deleted: None, got_through: false };
    assert_eq!(trial.warehouse().end_cycle(end).await.unwrap(), Forgotten::default());
    assert_eq!(trial.kept().pulls(&anna).len(), 1);
}

pub(super) async fn who_is_missing_from_the_roster_is_noted_until_it_is_listed_again<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna", "ben"]).await;
    let ben = person("ben");
    trial.pull(&ben, &[observation(1)], at(1)).await;
    assert_eq!(trial.checkpoint(&ben).await.missing, None);

    trial.begin_cycle(&["anna"], at(10)).await;
    assert_eq!(trial.checkpoint(&ben).await.missing, Some(Missing { since: at(10), readings: 1 }));
    trial.reopen();
    // One that stands in for a roster which cannot be read is no reading.
    let outdated = RosterReading { is_new: false, ..RosterReading::of_files(vec![listed("anna")]) };
    trial.warehouse().begin_cycle(outdated, at(20)).await.unwrap();
    assert_eq!(trial.checkpoint(&ben).await.missing, Some(Missing { since: at(10), readings: 1 }));
    let leases = trial.begin_cycle(&["anna"], at(30)).await;
    assert_eq!(leases[1].checkpoint.missing, Some(Missing { since: at(10), readings: 2 }));
    assert_eq!(trial.kept().live(&ben), ["Observation/1"]);

    // Who may be on it is not missing, nor listed.
    let unsure = vec![ben.clone()];
    let reading = RosterReading { unsure, ..RosterReading::of_files(vec![listed("anna")]) };
    let taken = trial.warehouse().begin_cycle(reading, at(35)).await.unwrap();
    assert!(taken.missing.is_empty() && !trial.checkpoint(&ben).await.listed);
    assert_eq!(trial.checkpoint(&ben).await.missing, None);
    trial.begin_cycle(&["anna"], at(36)).await;
    assert_eq!(trial.checkpoint(&ben).await.missing, Some(Missing { since: at(36), readings: 1 }));

    trial.begin_cycle(&["anna", "ben"], at(40)).await;
    assert_eq!(trial.checkpoint(&ben).await.missing, None);
}

pub(super) async fn what_has_long_been_marked_as_deleted_goes_with_the_end_of_a_cycle<C: Candidate>() {
    const DAY: i64 = 24 * 3_600;
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let rows = [observation(1), observation(2), observation(3)];
    trial.pull(&anna, &rows, at(1)).await;
    let mut pull = Pull::full(&anna, at(2));
    trial.store(&mut pull, batch(&rows[..2], end_with_sweep(&[&rows[..2], &rows[..2]], 1)), at(3)).await;
    assert_eq!(trial.kept().table("observation").len(), 3);
    let end = |now| {
        let keep_deleted = Some(Duration::from_hours(30 * 24));
        trial.warehouse().end_cycle(CycleEnd { now, keep_deleted, got_through: false })
    };

    assert_eq!(end(at(30 * DAY + 3)).await.unwrap(), Forgotten::default());
    assert_eq!(end(at(30 * DAY + 4)).await.unwrap(), Forgotten { deleted_rows: 1 });

    assert_eq!(trial.kept().table("observation").len(), 2);
    assert_eq!(trial.kept().live(&anna), ["Observation/1", "Observation/2"]);
    assert_eq!(end(at(60 * DAY)).await.unwrap(), Forgotten::default());
}

pub(super) async fn the_times_of_cycles_outlast_a_restart<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna"]).await;
    let times = trial.warehouse().cycle_times().await.unwrap();
    assert_eq!((times.last_started_at, times.last_good_end), (Some(at(0)), None));
    trial.warehouse().remember(ServiceNote::default()).await.unwrap();
    assert_eq!(trial.warehouse().cycle_times().await.unwrap().last_good_end, None);

    trial.begin_cycle(&["anna"], at(50)).await;
    let attention = trial.warehouse().attention().await.unwrap();
    let note = ServiceNote { well_end: Some(at(60)), ..ServiceNote::default() };
    trial.warehouse().remember(note).await.unwrap();
    assert_eq!(trial.everybody().await.len(), 1);
    assert_eq!(attention.oldest_unscrubbed, None);
    trial.reopen();

    let times = trial.warehouse().cycle_times().await.unwrap();
    assert_eq!((times.last_started_at, times.last_good_end), (Some(at(50)), Some(at(60))));

    // A cycle by hand, of which no service takes note.
    let end = CycleEnd { now: at(70), keep_deleted: None, got_through: true };
    trial.warehouse().end_cycle(end).await.unwrap();
    trial.reopen();
    assert_eq!(trial.warehouse().cycle_times().await.unwrap().last_good_end, Some(at(70)));
}

pub(super) async fn what_the_service_remembers_outlasts_a_restart_and_goes_with_a_purge<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna", "ben"]).await;
    let (anna, ben) = (person("anna"), person("ben"));
    trial.pull(&anna, &[observation(1)], at(1)).await;
    let cycle = |number: u64| PastCycle {
        started_at: at(i64::try_from(number).unwrap()),
        took: Duration::from_millis(1500),
        verdict: CycleVerdict::Bad("HealthEx does not answer".to_owned()),
        patients: PatientCounts { total: 2, ok: 1, skipped: 1, ..PatientCounts::default() },
        resources: Tally { inserted: number, ..Tally::default() },
        requests: 3,
    };
    let named = |person: &PersonId| NamedPatient { person: person.clone(), name: format!("label-{person}") };
    let problem = |patients| KnownProblem {
        kind: "held".to_owned(),
        since: at(5),
        told_at: at(6),
        text: None,
        patients,
    };
    let problems = vec![problem(vec![named(&anna), named(&ben)])];
    let cycles = (1..=50).map(cycle).collect();
    trial.warehouse().remember(ServiceNote { well_end: None, cycles, problems }).await.unwrap();
    trial.reopen();

    let memory = trial.warehouse().recall().await.unwrap();
    assert_eq!(memory.cycles, (3..=50).map(cycle).collect::<Vec<_>>());
    assert_eq!(memory.problems, [problem(vec![named(&anna), named(&ben)])]);
    trial.warehouse().purge(&anna, PurgeReason::Operator, BY, at(60)).await.unwrap();
    assert_eq!(trial.warehouse().recall().await.unwrap().problems, [problem(vec![named(&ben)])]);
    trial.warehouse().remember(ServiceNote::default()).await.unwrap();
    let memory = trial.warehouse().recall().await.unwrap();
    assert_eq!((memory.cycles.len(), memory.problems), (CYCLES_REMEMBERED, Vec::new()));
}

pub(super) async fn another_server_is_refused_or_adopted_with_its_rows<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    trial.pull(&anna, &[observation(1)], at(1)).await;
    trial.close();
    let mut elsewhere = trial.candidate.place().clone();
    elsewhere.base_url = "https://elsewhere.example.org".to_owned();
    let before = trial.kept();

    let refused = Warehouse::open(&elsewhere, OtherServer::Refuse, at(2)).err();
    assert!(matches!(refused, Some(OpenFailed::OtherServer { .. })), "{refused:?}");
    assert_eq!(trial.kept(), before);

    let adopted = Warehouse::open(&elsewhere, OtherServer::Adopt, at(3)).unwrap();
    let lease = adopted.claim(&anna).await.unwrap().unwrap();
    assert_eq!(lease.checkpoint.watermark, None);
    assert_eq!(lease.checkpoint.state, PatientState::Active);
    assert_eq!(trial.kept().live(&anna), ["Observation/1"]);
    drop(adopted);
    let refused = Warehouse::open(trial.candidate.place(), OtherServer::Refuse, at(4)).err();
    assert!(matches!(refused, Some(OpenFailed::OtherServer { .. })), "{refused:?}");
}

pub(super) async fn no_time_is_stored_that_was_not_told<C: Candidate>() {
    let trial = Trial::<C>::with(["anna", "ben"]).await;
    let (anna, ben) = (person("anna"), person("ben"));
    let rows = [observation(1), observation(2)];
    let mut pull = Pull::full(&anna, at(10));
    trial.store(&mut pull, batch(&rows[..1], next(&rows[..1], mark(1, 1, 1))), at(11)).await;
    trial.store(&mut pull, batch(&rows[1..], end(&rows, at(9))), at(12)).await;
    trial.pull(&ben, &rows, at(13)).await;
    let noted = trial.warehouse().note_renamed_full(&anna, at(14)).await.unwrap();
    assert_eq!(noted, Fenced::Kept(()));
    trial.warehouse().purge(&ben, PurgeReason::Operator, BY, at(15)).await.unwrap();
    let note = ServiceNote { well_end: Some(at(16)), ..ServiceNote::default() };
    trial.warehouse().remember(note).await.unwrap();
    trial.warehouse().scrub(|| at(17)).await.unwrap();
    trial.warehouse().rebuild_views(at(18), |_| ()).await.unwrap();

    let kept = trial.kept();

    let told = kept.times();
    let strange: Vec<_> = told.iter().filter(|time| **time < at(0) || **time > at(18)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    for seconds in [9, 10, 11, 12, 14, 15, 16, 17, 18] {
        assert!(told.contains(&at(seconds)), "{seconds} is lost");
    }
}
