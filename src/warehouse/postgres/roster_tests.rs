//! What is PostgreSQL's own about rosters: workers agree on one, and it may be replaced before it is gone by.

use super::candidate::PostgresCandidate;
use crate::plan::Timestamp;
use crate::plan::checkpoint::Checkpoint;
use crate::plan::leaver::ListedBy;
use crate::plan::roster::{RosterHash, RosterPatient};
use crate::warehouse::conformance::{Candidate, Trial, at, person};
use crate::warehouse::patient::{Listed, RosterReading};
use crate::warehouse::rosters::{OwnRoster, RosterInForce};

fn lines(persons: &[&str]) -> Vec<RosterPatient> {
    let line = |id: &&str| RosterPatient { person: person(id), label: None, types: None, enabled: true };
    persons.iter().map(line).collect()
}

async fn agree(trial: &Trial<PostgresCandidate>, persons: &[&str], now: Timestamp) -> RosterInForce {
    let patients = lines(persons);
    let own = OwnRoster { hash: &RosterHash::of(&patients), patients: &patients, is_new: true };
    trial.warehouse().agree_on_roster(Some(own), now).await.unwrap()
}

async fn begin(trial: &Trial<PostgresCandidate>, persons: &[&str], now: Timestamp) -> Vec<Checkpoint> {
    let patients = lines(persons);
    let listed =
        patients.iter().map(|line| Listed { person: line.person.clone(), label: None, by: ListedBy::File });
    let version = Some(RosterHash::of(&patients));
    let reading = RosterReading { listed: listed.collect(), is_new: true, version };
    let leases = trial.warehouse().begin_cycle(reading, now).await.unwrap();
    leases.into_iter().map(|lease| lease.checkpoint).collect()
}

#[tokio::test]
async fn a_roster_that_was_replaced_since_it_was_agreed_on_says_nothing_of_who_is_missing() {
    if !PostgresCandidate::is_here() {
        return;
    }
    let trial = Trial::<PostgresCandidate>::with(["anna", "ben"]).await;
    let missing = |patients: &[Checkpoint]| {
        let ben = patients.iter().find(|patient| patient.person == person("ben")).unwrap();
        ben.missing.map(|missing| missing.readings)
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
