//! A cycle's two ends, the roster, and the server that a warehouse is filled from.

use super::Candidate;
use super::trial::{BY, Pull, Trial, at, batch, end, link, mark, next, observation, person};
use crate::plan::state::{PatientState, PurgeReason};
use crate::warehouse::Warehouse;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::patient::Listed;
use crate::warehouse::place::OtherServer;
use crate::warehouse::pull::Lease;

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
    trial.warehouse().end_cycle().await.unwrap();
    assert_eq!(trial.kept().pulls(&anna).len(), 1);
}

pub(super) async fn who_left_the_roster_is_told_and_not_acted_on<C: Candidate>() {
    let trial = Trial::<C>::with(["anna", "ben", "cora"]).await;
    trial.pull(&person("ben"), &[observation(1)], at(1)).await;
    let before = trial.kept();
    let anna = Listed { person: person("anna"), label: None };

    let change = trial.warehouse().roster_change(&[anna]).await.unwrap();

    assert_eq!(change.known, 3);
    let gone: Vec<&str> = change.gone.iter().map(|patient| patient.person.as_str()).collect();
    assert_eq!(gone, ["ben", "cora"]);
    assert_eq!(trial.kept(), before);

    // Once it is taken over, only rows make somebody known who is not listed.
    trial.begin_cycle(&["anna"], at(2)).await;
    let anna = Listed { person: person("anna"), label: None };
    let change = trial.warehouse().roster_change(&[anna]).await.unwrap();
    assert_eq!(change.known, 2);
    assert_eq!(change.gone.len(), 1);
    assert!(change.gone[0].holds_rows);
}

pub(super) async fn the_times_of_cycles_outlast_a_restart<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna"]).await;
    let times = trial.warehouse().cycle_times().await.unwrap();
    assert_eq!((times.last_started_at, times.last_good_end), (Some(at(0)), None));
    trial.warehouse().attention(None).await.unwrap();
    assert_eq!(trial.warehouse().cycle_times().await.unwrap().last_good_end, None);

    trial.begin_cycle(&["anna"], at(50)).await;
    let attention = trial.warehouse().attention(Some(at(60))).await.unwrap();
    assert_eq!(attention.patients.len(), 1);
    assert_eq!(attention.oldest_unscrubbed, None);
    trial.reopen();

    let times = trial.warehouse().cycle_times().await.unwrap();
    assert_eq!((times.last_started_at, times.last_good_end), (Some(at(50)), Some(at(60))));
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
    trial.warehouse().note_renamed_full(&anna, at(14)).await.unwrap();
    trial.warehouse().purge(&ben, PurgeReason::Operator, BY, at(15)).await.unwrap();
    trial.warehouse().attention(Some(at(16))).await.unwrap();
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
