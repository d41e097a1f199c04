//! What is PostgreSQL's own about rosters: workers agree on one, and it may be replaced before it is gone by.

use std::collections::HashSet;
use std::sync::Arc;

use super::candidate::PostgresCandidate;
use crate::plan::checkpoint::Checkpoint;
use crate::plan::roster::{RosterHash, RosterPatients};
use crate::plan::{Timestamp, TypeFilter};
use crate::warehouse::conformance::{Candidate, Trial, at, listed, observation, person};
use crate::warehouse::patient::{MissingPatient, RosterReading};
use crate::warehouse::pull::Lease;
use crate::warehouse::rosters::{OwnRoster, RosterInForce};
use crate::warehouse::turn::{Announced, Claimed, Planned, Turn, TurnsAsked};

fn lines(persons: &[&str]) -> RosterPatients {
    persons.iter().map(|id| listed(id)).collect::<Vec<_>>().into()
}

async fn agree(trial: &Trial<PostgresCandidate>, persons: &[&str], now: Timestamp) -> RosterInForce {
    let patients = lines(persons);
    let own = OwnRoster { hash: &RosterHash::of(&patients), patients: &patients, is_new: true };
    trial.warehouse().agree_on_roster(Some(own), now).await.unwrap()
}

/// Returns whom the roster that is in force lacks.
async fn begin(trial: &Trial<PostgresCandidate>, persons: &[&str], now: Timestamp) -> Vec<MissingPatient> {
    let patients = lines(persons);
    let version = Some(RosterHash::of(&patients));
    let reading = RosterReading { version, ..RosterReading::of_files(patients.to_vec()) };
    trial.warehouse().begin_cycle(reading, now).await.unwrap().missing
}

#[tokio::test]
async fn a_roster_that_was_replaced_since_it_was_agreed_on_says_nothing_of_who_is_missing() {
    if !PostgresCandidate::is_here() {
        return;
    }
    let trial = Trial::<PostgresCandidate>::with(["anna", "ben"]).await;
    trial.pull(&person("ben"), &[observation(1)], at(1)).await;
    let missing = |patients: &[MissingPatient]| {
        let ben = patients.iter().find(|patient| patient.person == person("ben"));
        ben.map(|ben| ben.missing.readings)
    };
    assert!(matches!(agree(&trial, &["anna"], at(10)).await, RosterInForce::Own));
    assert_eq!(missing(&begin(&trial, &["anna"], at(11)).await), Some(1));
    assert!(matches!(agree(&trial, &["anna", "ben"], at(20)).await, RosterInForce::Own));
    assert_eq!(missing(&begin(&trial, &["anna"], at(21)).await), None);
    let kept = trial.warehouse().claim(&person("ben")).await.unwrap().unwrap();
    assert_eq!(kept.checkpoint.missing.map(|missing| missing.readings), Some(1));
    assert_eq!(missing(&begin(&trial, &["anna", "ben"], at(22)).await), None);
    let kept = trial.warehouse().claim(&person("ben")).await.unwrap().unwrap();
    assert_eq!(kept.checkpoint.missing, None);
}

#[tokio::test]
async fn of_rosters_that_are_new_at_once_one_after_the_other_is_in_force_whole() {
    if !PostgresCandidate::is_here() {
        return;
    }
    let trial = Trial::<PostgresCandidate>::with(["anna"]).await;
    let names: Vec<Vec<String>> =
        (0..8).map(|worker| (0..50).map(|patient| format!("p{worker}-{patient}")).collect()).collect();
    let rosters: Vec<Vec<&str>> =
        names.iter().map(|names| names.iter().map(String::as_str).collect()).collect();
    let agreed = rosters.iter().map(|roster| agree(&trial, roster, at(10)));
    for agreed in futures_util::future::join_all(agreed).await {
        assert!(matches!(agreed, RosterInForce::Own));
    }
    let Ok(RosterInForce::Kept(version, kept)) = trial.warehouse().agree_on_roster(None, at(20)).await else {
        panic!("there is none");
    };
    assert!(names.iter().any(|names| RosterHash::of(&kept)
        == RosterHash::of(&lines(&names.iter().map(String::as_str).collect::<Vec<_>>()))));
    assert_eq!((RosterHash::of(&kept), version.patients), (version.hash, 50));
}

#[tokio::test]
async fn a_roster_of_many_pieces_is_taken_over_whole() {
    const PATIENTS: usize = 20_001;
    if !PostgresCandidate::is_here() {
        return;
    }
    let trial = Trial::<PostgresCandidate>::with([]).await;
    let ids: Vec<String> = (0..PATIENTS).map(|number| format!("p{number}")).collect();
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    begin(&trial, &all, at(10)).await;
    let half: Vec<&str> = all.iter().copied().step_by(2).collect();
    begin(&trial, &half, at(20)).await;

    let mut found = Vec::new();
    trial.warehouse().visit_patients(|patient| found.push(patient)).await.unwrap();
    let half: HashSet<&str> = half.into_iter().collect();
    let is_as_listed = |patient: &Checkpoint| {
        let is_listed = half.contains(patient.person.as_str());
        patient.listed == is_listed && patient.missing.is_none() == is_listed
    };
    assert_eq!(found.iter().filter(|patient| !is_as_listed(patient)).count(), 0);
    assert_eq!(found.iter().map(|patient| &patient.person).collect::<HashSet<_>>().len(), PATIENTS);

    trial.warehouse().announce_cycle(None, at(30)).await.unwrap();
    let shared = trial.warehouse().shared().unwrap();
    let plan = |patients: Vec<Lease>| {
        let others = patients.len();
        Planned { turns: patients.into_iter().map(turn).collect(), others }
    };
    let pieces = shared.plan_turns(Arc::new(plan), at(31)).await.unwrap();
    assert_eq!(pieces, [10_000, 10_000, 1]);
    assert_eq!(shared.progress().await.unwrap().0.total, PATIENTS as u64);
}

fn turn(lease: Lease) -> Turn {
    Turn { lease, mode: None, types: TypeFilter::default(), consents: false }
}

#[tokio::test]
async fn whoever_has_waited_longest_has_the_first_turn() {
    if !PostgresCandidate::is_here() {
        return;
    }
    let trial = Trial::<PostgresCandidate>::with(["anna", "ben", "cora", "dan"]).await;
    for (id, seconds) in [("cora", 10), ("anna", 20), ("dan", 30)] {
        trial.pull(&person(id), &[observation(1)], at(seconds)).await;
    }
    assert_eq!(trial.warehouse().announce_cycle(None, at(40)).await.unwrap(), Announced::Shared);
    let shared = trial.warehouse().shared().unwrap();
    let plan = move |patients: Vec<Lease>| {
        let (turns, others): (Vec<Lease>, Vec<Lease>) =
            patients.into_iter().partition(|lease| lease.person().as_str() != "anna");
        Planned { turns: turns.into_iter().map(turn).collect(), others }
    };
    let others = shared.plan_turns(Arc::new(plan), at(41)).await.unwrap().concat();
    assert_eq!(others.iter().map(Lease::person).collect::<Vec<_>>(), [&person("anna")]);
    let asked = || TurnsAsked { most: 1, ..TurnsAsked::default() };
    for id in ["ben", "cora", "dan"] {
        let Claimed::Turns(turns) = shared.claim_turns(asked(), at(42)).await.unwrap() else {
            panic!("{id} has no turn")
        };
        assert_eq!(turns.iter().map(|turn| turn.lease.person()).collect::<Vec<_>>(), [&person(id)]);
    }
}
