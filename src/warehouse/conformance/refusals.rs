//! Pulls and questions that did not end well, and what they do to their patient.

use super::Candidate;
use super::trial::{Pull, Trial, at, batch, kept, link, mark, next, observation, person, setback};
use crate::plan::stamp;
use crate::plan::state::{Event, HeldWhy, PatientState};
use crate::warehouse::pull::{Fenced, PullOutcome, Setback};

pub(super) async fn a_pull_that_fails_keeps_its_rows_its_watermark_and_its_place<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    trial.pull(&anna, &[observation(1)], at(10)).await;
    let rows = [observation(2)];
    for failures in 1..=2_u32 {
        let begun = i64::from(failures) * 100;
        let mut pull = Pull::full(&anna, at(begun));
        trial.store(&mut pull, batch(&rows, next(&rows, mark(1, 1, 1))), at(begun + 1)).await;
        let failed = pull.ended(PullOutcome::Failed, Some(setback(Event::PullFailed)));
        trial.end(failed, at(begun + 2)).await;
        trial.reopen();

        let checkpoint = trial.checkpoint(&anna).await;
        assert_eq!((checkpoint.state, checkpoint.failures), (PatientState::Failing, failures));
        assert_eq!(checkpoint.next_attempt_at, Some(at(9_000)));
        assert_eq!(checkpoint.watermark, Some(at(10)));
        assert_eq!(checkpoint.last_asked_at, Some(at(10)), "nobody has answered");
        assert_eq!(checkpoint.unfinished.unwrap().next_url, Some(link(2)));
        let pulls = trial.kept().pulls(&anna);
        let pull = &pulls[failures as usize];
        assert_eq!((pull["outcome"].as_str(), pull["error"].as_str()), ("failed", "why it ended"));
        assert_eq!(pull["finished_at"], stamp(at(begun + 2)));
        assert_eq!((pull["pages"].as_str(), pull["entries"].as_str()), ("1", "1"));
        assert_eq!(told(&trial), Some("what an operator is told".to_owned()));
    }
    assert_eq!(trial.kept().live(&anna), ["Observation/1", "Observation/2"]);

    let forgets = Setback { forgets_pull: true, was_answered: true, ..setback(Event::PersonUnknown) };
    let unknown = Pull::full(&anna, at(400)).ended(PullOutcome::NotFound, Some(forgets));
    trial.end(unknown, at(401)).await;
    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!((checkpoint.state, checkpoint.failures), (PatientState::NotFound, 0));
    assert_eq!(checkpoint.last_asked_at, Some(at(401)));
    assert_eq!(checkpoint.unfinished, None);
    assert!(trial.warehouse().unfinished_walks(&anna).await.unwrap().is_empty());

    // What ends well clears it all.
    trial.pull(&anna, &rows, at(500)).await;
    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!((checkpoint.state, checkpoint.next_attempt_at), (PatientState::Active, None));
    assert_eq!(told(&trial), None);
    trial.assert_sound();
}

/// Returns what an operator is told of the only patient.
fn told<C: Candidate>(trial: &Trial<C>) -> Option<String> {
    trial.reader().status().unwrap().patients[0].last_error.clone()
}

pub(super) async fn a_pull_that_is_interrupted_is_held_against_nobody<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let rows = [observation(1)];
    let mut pull = Pull::full(&anna, at(10));
    trial.store(&mut pull, batch(&rows, next(&rows, mark(1, 1, 1))), at(11)).await;
    let before = trial.checkpoint(&anna).await;

    trial.end(pull.ended(PullOutcome::Interrupted, None), at(12)).await;

    assert_eq!(trial.checkpoint(&anna).await, before);
    let [pull] = &trial.kept().pulls(&anna)[..] else { panic!("one pull") };
    assert_eq!((pull["outcome"].as_str(), pull["finished_at"].clone()), ("interrupted", stamp(at(12))));
}

pub(super) async fn a_link_that_fails_is_counted_and_a_new_page_clears_the_count<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let rows = [observation(1)];
    let mut pull = Pull::full(&anna, at(10));
    let fail = async |pull: &Pull, now| {
        trial.end(pull.ended(PullOutcome::Failed, Some(setback(Event::PullFailed))), now).await;
        trial.checkpoint(&anna).await.unfinished.map(|unfinished| unfinished.link_failures)
    };
    assert_eq!(fail(&pull, at(11)).await, None, "there is no link yet");
    trial.store(&mut pull, batch(&rows, next(&rows, mark(1, 1, 1))), at(12)).await;
    assert_eq!(fail(&pull, at(13)).await, Some(1));
    assert_eq!(fail(&pull, at(14)).await, Some(2));
    trial.store(&mut pull, batch(&rows, next(&rows, mark(1, 2, 2))), at(15)).await;
    assert_eq!(trial.checkpoint(&anna).await.unfinished.unwrap().link_failures, 0);
}

pub(super) async fn a_refusal_is_noted_the_moment_it_arrives<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    trial.pull(&anna, &[observation(1)], at(10)).await;
    let pull = Pull::full(&anna, at(20));

    let row = trial.warehouse().note_refusal(&pull.head, pull.cost, at(21)).await.unwrap();
    trial.reopen();

    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!((checkpoint.state, checkpoint.refused_at), (PatientState::Refused, Some(at(21))));
    assert_eq!((checkpoint.last_asked_at, checkpoint.watermark), (Some(at(21)), Some(at(10))));
    let pulls = trial.kept().pulls(&anna);
    assert_eq!((pulls.len(), pulls[1].get("outcome")), (2, None), "until it is judged");
    assert_eq!(row.map(|row| row.to_string()), pulls[1].get("id").cloned());
    assert_eq!(trial.kept().live(&anna), ["Observation/1"]);

    // The first of an unbroken row of refusals counts, until there is a permission.
    trial.warehouse().note_refusal(&pull.head, pull.cost, at(30)).await.unwrap();
    assert_eq!(trial.checkpoint(&anna).await.refused_at, Some(at(21)));
    let permitted = Setback { error: None, ..setback(Event::StillPermitted) };
    kept(trial.warehouse().note_answer(&anna, permitted, at(31)).await.unwrap());
    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!((checkpoint.state, checkpoint.refused_at), (PatientState::Active, None));

    let stranger = Pull::full(&person("stranger"), at(40));
    let row = trial.warehouse().note_refusal(&stranger.head, stranger.cost, at(41)).await.unwrap();
    assert_eq!(row, None);
    assert!(trial.kept().pulls(&person("stranger")).is_empty());
}

pub(super) async fn the_latest_that_were_pulled_can_bear_witness<C: Candidate>() {
    let trial = Trial::<C>::with(["anna", "ben", "cora", "dan"]).await;
    for (id, now) in [("anna", 10), ("ben", 30), ("cora", 20)] {
        trial.pull(&person(id), &[observation(1)], at(now)).await;
    }
    // One that is refused itself is no witness, nor is one that was never pulled.
    let refused = Pull::full(&person("ben"), at(50));
    trial.warehouse().note_refusal(&refused.head, refused.cost, at(51)).await.unwrap();

    let latest = trial.warehouse().latest_pulled(3).await.unwrap();

    assert_eq!(latest, [person("cora"), person("anna")]);
    assert_eq!(trial.warehouse().latest_pulled(1).await.unwrap(), [person("cora")]);
}

pub(super) async fn a_withdrawal_that_is_held_keeps_all_rows<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    trial.pull(&anna, &[observation(1)], at(10)).await;
    let before = trial.kept().resources(&anna);
    let answered = |event| Setback { was_answered: true, next_attempt_at: None, ..setback(event) };

    kept(trial.warehouse().note_answer(&anna, answered(Event::Held(HeldWhy::Many)), at(20)).await.unwrap());
    trial.reopen();

    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!((checkpoint.state, checkpoint.held_why), (PatientState::Held, Some(HeldWhy::Many)));
    assert_eq!(checkpoint.refused_at, Some(at(20)));
    assert_eq!(checkpoint.last_asked_at, Some(at(20)));
    assert_eq!(checkpoint.watermark, Some(at(10)));
    assert!(checkpoint.holds_rows);
    assert_eq!(told(&trial), Some("what an operator is told".to_owned()));
    assert_eq!(trial.kept().resources(&anna), before);

    // Asked again without an answer it is held still; permitted, it is not.
    kept(trial.warehouse().note_answer(&anna, setback(Event::PullFailed), at(21)).await.unwrap());
    assert_eq!(trial.checkpoint(&anna).await.state, PatientState::Held);
    let permitted = Setback { error: None, ..answered(Event::StillPermitted) };
    kept(trial.warehouse().note_answer(&anna, permitted, at(22)).await.unwrap());
    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!((checkpoint.state, checkpoint.last_asked_at), (PatientState::Active, Some(at(22))));
    assert_eq!((checkpoint.held_why, checkpoint.refused_at), (None, None));
    assert_eq!(told(&trial), None);
}

pub(super) async fn an_answer_for_somebody_unknown_is_answered<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let stranger = person("stranger");
    let before = trial.kept();

    let noted = trial.warehouse().note_answer(&stranger, setback(Event::PullFailed), at(1)).await.unwrap();
    assert_eq!(noted, Fenced::Superseded);
    let failed = Pull::full(&stranger, at(1)).ended(PullOutcome::Failed, Some(setback(Event::PullFailed)));
    assert_eq!(trial.warehouse().end_pull(failed, at(2)).await.unwrap(), Fenced::Superseded);
    assert_eq!(trial.kept(), before, "nor is there a row of its pull");
}
