//! A page and the fact that it is stored, up to the last one.

use super::Candidate;
use super::trial::{
    Pull, Trial, at, batch, condition, end, kept, keys, link, mark, next, observation, observation_that,
    person, quarantined, setback,
};
use crate::plan::completeness::WalkCounts;
use crate::plan::row::{Row, key_hash, row_of};
use crate::plan::state::{Event, PatientState};
use crate::plan::{PullMode, stamp};
use crate::warehouse::page::{Batch, IncomingRow, PullProgress, Tally, WalkMark};
use crate::warehouse::pull::{Fenced, PullOutcome};

pub(super) async fn a_page_is_kept_with_the_place_where_the_pull_goes_on<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let mut pull = Pull::full(&anna, at(10));
    let rows = [observation(1), condition(1)];

    let part = trial.store(&mut pull, batch(&rows[..1], PullProgress::Partial), at(11)).await;
    // Stored, and the page still has to be asked for again.
    assert_eq!(part.tally, Tally { inserted: 1, ..Tally::default() });
    let unfinished = trial.checkpoint(&anna).await.unfinished.unwrap();
    assert_eq!((unfinished.next_url, unfinished.pages), (None, 0));
    let whole = trial.store(&mut pull, batch(&rows[1..], next(&rows, mark(1, 1, 2))), at(12)).await;
    assert_eq!(whole.tally, Tally { inserted: 1, ..Tally::default() });
    assert_eq!(whole.row, part.row);
    trial.reopen();

    let checkpoint = trial.checkpoint(&anna).await;
    let unfinished = checkpoint.unfinished.unwrap();
    assert_eq!(unfinished.mode, PullMode::Full);
    assert_eq!(unfinished.started_at, at(10));
    assert_eq!(unfinished.next_url, Some(link(2)));
    assert_eq!((unfinished.pages, unfinished.walk, unfinished.has_total), (1, 1, true));
    assert!(checkpoint.holds_rows);
    assert_eq!(checkpoint.watermark, None);
    let resources = trial.kept().resources(&anna);
    assert_eq!(resources.keys().collect::<Vec<_>>(), ["Condition/1", "Observation/1"]);
    let first = &resources["Observation/1"];
    assert_eq!(first.resource, observation(1).resource);
    assert_eq!((first.first_seen_at, first.changed_at, first.deleted_at), (at(11), at(11), None));
    let [pull] = &trial.kept().pulls(&anna)[..] else { panic!("one pull") };
    assert_eq!((pull["pages"].as_str(), pull["inserted"].as_str()), ("1", "2"));
    assert_eq!((pull.get("finished_at"), pull.get("outcome")), (None, None));
    trial.assert_sound();
}

pub(super) async fn a_page_of_somebody_unknown_is_not_kept_in_any_part<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let stranger = person("stranger");
    let before = trial.kept();
    let rows = [observation(1)];
    for progress in [PullProgress::Partial, next(&rows, mark(1, 1, 1)), end(&rows, at(1))] {
        let mut pull = Pull::full(&stranger, at(1));
        let mut batch = batch(&rows, progress);
        batch.quarantined.push(quarantined("#1"));
        assert_eq!(trial.answer(&mut pull, batch, at(2)).await, Fenced::Superseded);
        assert_eq!(trial.kept(), before);
    }
    assert!(trial.warehouse().claim(&stranger).await.unwrap().is_none());
}

pub(super) async fn a_page_that_comes_again_changes_nothing<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let rows = [observation(1), observation(2)];
    trial.pull(&anna, &rows, at(10)).await;
    let before = trial.kept().resources(&anna);

    let mut again = Pull::full(&anna, at(20));
    let stored = trial.store(&mut again, batch(&rows, end(&rows, at(20))), at(21)).await;
    assert_eq!(stored.tally, Tally { unchanged: 2, ..Tally::default() });
    assert_eq!(trial.kept().resources(&anna), before);

    let changed = [observation_that(1, "is changed"), observation(2)];
    let mut other = Pull::full(&anna, at(30));
    let stored = trial.store(&mut other, batch(&changed, end(&changed, at(30))), at(31)).await;
    assert_eq!(stored.tally, Tally { updated: 1, unchanged: 1, ..Tally::default() });
    let after = trial.kept().resources(&anna);
    let one = &after["Observation/1"];
    assert_eq!(one.resource, changed[0].resource);
    assert_eq!((one.first_seen_at, one.changed_at), (at(10), at(31)));
    assert_eq!(after["Observation/2"], before["Observation/2"]);
    trial.assert_sound();
}

fn updated_at(time: &str) -> Row {
    let resource = format!(r#"{{"resourceType":"Observation","id":"o1","meta":{{"lastUpdated":"{time}"}}}}"#);
    row_of("Observation/1", &resource).unwrap()
}

pub(super) async fn of_two_versions_in_one_walk_the_later_stays<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let (older, newer) = (updated_at("2000-01-01T00:00:00Z"), updated_at("2000-01-02T00:00:00Z"));
    let mut pull = Pull::full(&anna, at(10));
    let rows = std::slice::from_ref(&newer);
    trial.store(&mut pull, batch(rows, next(rows, mark(1, 1, 1))), at(11)).await;
    let repeat = |row: &Row| Batch {
        rows: vec![IncomingRow { row: row.clone(), is_repeat: true }],
        quarantined: Vec::new(),
        progress: PullProgress::Partial,
        is_mostly_changes: false,
    };

    let stored = trial.store(&mut pull, repeat(&older), at(12)).await;
    assert_eq!(stored.tally, Tally { unchanged: 1, ..Tally::default() });
    assert_eq!(trial.kept().resources(&anna)["Observation/1"].resource, newer.resource);

    // In a walk of its own the server's latest word counts, whatever its time.
    let stored =
        trial.store(&mut pull, batch(std::slice::from_ref(&older), PullProgress::Partial), at(13)).await;
    assert_eq!(stored.tally, Tally { updated: 1, ..Tally::default() });
    assert_eq!(trial.kept().resources(&anna)["Observation/1"].resource, older.resource);
}

pub(super) async fn what_cannot_be_a_row_is_quarantined_until_it_can<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let mut pull = Pull::full(&anna, at(10));
    let mut broken = batch(&[], end(&[], at(10)));
    broken.quarantined = vec![observation(1).quarantined("is no resource"), quarantined("#2")];

    let stored = trial.store(&mut pull, broken, at(11)).await;

    assert_eq!(stored.tally, Tally { quarantined: 2, ..Tally::default() });
    assert!(trial.checkpoint(&anna).await.holds_rows);
    let rows = trial.kept().table("quarantine").to_vec();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["received_at"] == stamp(at(11))));

    trial.pull(&anna, &[observation(1)], at(20)).await;
    let left: Vec<String> = trial.kept().table("quarantine").iter().map(|row| row["key"].clone()).collect();
    assert_eq!(left, ["#2"]);

    // A full pull that sweeps has not met the other one any more.
    let rows = [observation(1)];
    let mut sweeping = Pull::full(&anna, at(30));
    trial.store(&mut sweeping, batch(&rows, end_with_sweep(&rows)), at(31)).await;
    assert!(trial.kept().table("quarantine").is_empty());
}

fn end_with_sweep(rows: &[Row]) -> PullProgress {
    super::trial::end_with_sweep(&[rows, rows], 1)
}

pub(super) async fn the_last_page_moves_the_watermark_and_the_pull_together<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let mut pull = Pull::full(&anna, at(10));
    let rows = [observation(1), observation(2)];
    trial.store(&mut pull, batch(&rows[..1], next(&rows[..1], mark(1, 1, 1))), at(11)).await;

    trial.store(&mut pull, batch(&rows[1..], end(&rows, at(7))), at(12)).await;
    trial.reopen();

    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!(checkpoint.state, PatientState::Active);
    assert_eq!(checkpoint.watermark, Some(at(7)));
    assert_eq!(checkpoint.last_success_at, Some(at(12)));
    assert_eq!(checkpoint.last_full_at, Some(at(12)));
    assert_eq!(checkpoint.last_asked_at, Some(at(12)));
    assert_eq!(checkpoint.unfinished, None);
    let [pull] = &trial.kept().pulls(&anna)[..] else { panic!("one pull") };
    assert_eq!(pull["outcome"], "ok");
    assert_eq!(pull["finished_at"], stamp(at(12)));
    assert_eq!(
        (pull["pages"].as_str(), pull["entries"].as_str(), pull["inserted"].as_str()),
        ("2", "2", "2")
    );
    assert!(trial.warehouse().unfinished_walks(&anna).await.unwrap().is_empty());
    assert!(trial.kept().table("seen").is_empty());

    let mut later = Pull::new(&anna, PullMode::Incremental, at(100));
    trial.store(&mut later, batch(&[], end(&[], at(97))), at(101)).await;
    let checkpoint = trial.checkpoint(&anna).await;
    assert_eq!(checkpoint.watermark, Some(at(97)));
    assert_eq!(checkpoint.last_full_at, Some(at(12)), "an incremental pull is no full one");
}

pub(super) async fn a_pull_of_one_batch_leaves_no_marks<C: Candidate>() {
    let trial = Trial::<C>::with(["anna", "ben"]).await;
    let (anna, ben) = (person("anna"), person("ben"));
    trial.pull(&anna, &[observation(1)], at(10)).await;
    trial.pull(&ben, &[], at(11)).await;

    let kept = trial.kept();
    assert_eq!(kept.live(&anna), ["Observation/1"]);
    assert!(kept.table("walk").is_empty() && kept.table("seen").is_empty());
    assert!(trial.checkpoint(&anna).await.holds_rows);
    assert!(!trial.checkpoint(&ben).await.holds_rows, "nothing came");
    assert_eq!(trial.checkpoint(&ben).await.state, PatientState::Active);
    trial.assert_sound();
}

pub(super) async fn a_pull_that_another_has_taken_over_is_answered_and_not_kept<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let rows = [observation(1)];
    let mut first = Pull::full(&anna, at(10));
    trial.store(&mut first, batch(&rows, next(&rows, mark(1, 1, 1))), at(11)).await;
    let mut second = Pull::full(&anna, at(20));
    trial.store(&mut second, batch(&rows, next(&rows, mark(1, 1, 1))), at(21)).await;
    let before = trial.kept();

    let late = [observation(2)];
    for progress in [
        PullProgress::Partial,
        next(&late, mark(1, 2, 2)),
        PullProgress::WalkAgain { keys: keys(&late), walk: mark(1, 2, 2) },
        end(&late, at(10)),
    ] {
        let mut batch = batch(&late, progress);
        batch.quarantined.push(quarantined("#1"));
        assert_eq!(trial.answer(&mut first, batch, at(30)).await, Fenced::Superseded);
        assert_eq!(trial.kept(), before);
    }

    // Nor is it held against the patient that the first one failed.
    for setback in [None, Some(setback(Event::PullFailed))] {
        let ended = first.ended(PullOutcome::Failed, setback);
        assert_eq!(trial.warehouse().end_pull(ended, at(30)).await.unwrap(), Fenced::Superseded);
        assert_eq!(trial.kept(), before);
    }

    // The one that has taken over goes on.
    trial.store(&mut second, batch(&late, end(&late, at(20))), at(31)).await;
    assert_eq!(trial.checkpoint(&anna).await.watermark, Some(at(20)));
    assert_eq!(trial.kept().live(&anna), ["Observation/1", "Observation/2"]);
}

pub(super) async fn a_walk_that_is_resumed_has_seen_what_it_saw<C: Candidate>() {
    let mut trial = Trial::<C>::with(["anna", "ben"]).await;
    let anna = person("anna");
    let mut pull = Pull::full(&anna, at(10));
    let rows: Vec<Row> = (1..=4).map(observation).collect();
    let walk = |number, pages, received, total_changed| WalkMark {
        number,
        counts: WalkCounts { pages, received, total: Some(9), total_changed, ..WalkCounts::default() },
    };
    trial.store(&mut pull, batch(&rows[..2], next(&rows[..2], walk(1, 1, 2, false))), at(11)).await;
    let again = PullProgress::WalkAgain { keys: keys(&rows[2..]), walk: walk(1, 2, 5, true) };
    trial.store(&mut pull, batch(&rows[2..], again), at(12)).await;
    let mut uncounted = next(&rows[..1], walk(2, 1, 1, false));
    if let PullProgress::Next { walk, .. } = &mut uncounted {
        walk.counts.total = None;
    }
    trial.store(&mut pull, batch(&rows[..1], uncounted), at(13)).await;
    trial.reopen();

    let unfinished = trial.checkpoint(&anna).await.unfinished.unwrap();
    assert_eq!((unfinished.walk, unfinished.pages, unfinished.has_total), (2, 1, false));
    let walks = trial.warehouse().unfinished_walks(&anna).await.unwrap();
    let [first, second] = &walks[..] else { panic!("{walks:?}") };
    assert_eq!(first.seen, keys(&rows).into_iter().collect());
    let counts = |pages, received, total, total_changed| WalkCounts {
        pages,
        received,
        total,
        total_changed,
        ..WalkCounts::default()
    };
    assert_eq!(first.counts, counts(2, 5, Some(9), true));
    assert_eq!(second.seen, keys(&rows[..1]).into_iter().collect());
    assert_eq!(second.counts, counts(1, 1, None, false));
    assert!(trial.warehouse().unfinished_walks(&person("ben")).await.unwrap().is_empty());

    // A page that is asked for again after the restart is the same page.
    pull.head.is_resumed = true;
    pull.cost.row = None;
    let same = next(&rows[1..2], walk(2, 2, 2, false));
    trial.store(&mut pull, batch(&rows[1..2], same), at(20)).await;
    let walks = trial.warehouse().unfinished_walks(&anna).await.unwrap();
    assert_eq!(walks[1].seen, keys(&rows[..2]).into_iter().collect());
    assert_eq!(trial.kept().pulls(&anna).len(), 2, "a row for each attempt");
}

pub(super) async fn a_pull_that_begins_again_forgets_its_walks<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    let mut pull = Pull::full(&anna, at(10));
    let rows = [observation(1)];
    trial.store(&mut pull, batch(&rows, next(&rows, mark(1, 1, 1))), at(11)).await;

    kept(trial.warehouse().restart_pull(&pull.head).await.unwrap());

    let unfinished = trial.checkpoint(&anna).await.unfinished.unwrap();
    assert_eq!((unfinished.next_url, unfinished.pages, unfinished.walk), (None, 0, 1));
    assert!(trial.warehouse().unfinished_walks(&anna).await.unwrap().is_empty());
    assert_eq!(trial.kept().live(&anna), ["Observation/1"], "what came stays");
    let unknown = Pull::full(&person("stranger"), at(10));
    assert_eq!(trial.warehouse().restart_pull(&unknown.head).await.unwrap(), Fenced::Superseded);
}

pub(super) async fn a_renamed_entry_is_noticed_by_an_incremental_pull_alone<C: Candidate>() {
    let trial = Trial::<C>::with(["anna"]).await;
    let anna = person("anna");
    trial.pull(&anna, &[observation(1), observation(2)], at(10)).await;
    let renamed = |number: u32| {
        let row = observation(number);
        [Row { key: format!("{}-again", row.key), ..row }]
    };

    let rows = renamed(1);
    let mut full = Pull::full(&anna, at(20));
    let stored = trial.store(&mut full, batch(&rows, PullProgress::Partial), at(21)).await;
    assert!(!stored.renamed);
    trial.end(full.ended(PullOutcome::Interrupted, None), at(22)).await;

    let rows = renamed(2);
    let mut incremental = Pull::new(&anna, PullMode::Incremental, at(30));
    let stored = trial.store(&mut incremental, batch(&rows, next(&rows, mark(1, 1, 1))), at(31)).await;
    assert!(stored.renamed);
    assert!(trial.checkpoint(&anna).await.unfinished.unwrap().renamed);
    let noted = trial.warehouse().note_renamed_full(&anna, at(32)).await.unwrap();
    assert_eq!(noted, Fenced::Kept(()));
    assert_eq!(trial.checkpoint(&anna).await.renamed_full_at, Some(at(32)));

    // Two that arrive together are two things.
    let twins = [observation(3), renamed(3)[0].clone()];
    let stored = trial.store(&mut incremental, batch(&twins, PullProgress::Partial), at(33)).await;
    assert!(!stored.renamed);
    assert_ne!(key_hash(&twins[0].key), key_hash(&twins[1].key));
}
