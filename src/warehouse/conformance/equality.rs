//! The analysts' tables of both engines after the same pulls: equal, but for how a type is written.
//!
//! What PostgreSQL cannot read is the one difference that is allowed, and is left out of both.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::trial::{
    Pull, Trial, at, batch, condition, end_with_sweep, kept, observation, person, quarantined, setback,
};
use super::{Candidate, Kept};
use crate::plan::row::{Row, row_of};
use crate::plan::state::{Event, HeldWhy};
use crate::plan::{PersonId, Timestamp, parse_stamp};
use crate::sandbox::Population;
use crate::time::TimeDelta;
use crate::views::{Evaluation, Several, View, ViewDefinition};
use crate::warehouse::Reader;
use crate::warehouse::extract::Selection;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::PullProgress;
use crate::warehouse::postgres::{PostgresCandidate, is_readable};
use crate::warehouse::pull::PullOutcome;
use crate::warehouse::report::{OverviewRequest, RowFormat, StatusReport};
use crate::warehouse::sqlite::SqliteCandidate;

#[path = "../../../tests/support/shared_folder.rs"]
mod shared_folder;

/// Rows of one page: two and more are sent of a larger record.
const PAGE_ROWS: usize = 200;

/// A record as it is at first, and what it becomes.
struct Record {
    person: PersonId,
    first: Vec<Row>,
    later: Vec<Row>,
}

#[derive(Deserialize)]
struct Quirk {
    resources: Vec<Box<RawValue>>,
}

fn rows(resources: impl IntoIterator<Item = String>) -> Vec<Row> {
    let readable = resources.into_iter().enumerate().filter(|(_, resource)| is_readable(resource));
    readable.filter_map(|(at, resource)| row_of(&format!("urn:{at:05}"), &resource)).collect()
}

/// Every fifth is gone, every third has changed, and every seventh is there once more.
fn later(first: &[Row]) -> Vec<Row> {
    let kept = first.iter().enumerate().filter(|(at, _)| at % 5 != 4);
    let changed = kept.map(|(at, row)| {
        let other = row.resource.replace("\"final\"", "\"amended\"").replace("201", "202").replace('7', "8");
        if at % 3 == 0 { row_of(&row.key, &other).unwrap_or_else(|| row.clone()) } else { row.clone() }
    });
    let more = first.iter().step_by(7).filter_map(|row| row_of(&format!("{}-again", row.key), &row.resource));
    changed.chain(more).collect()
}

fn records() -> Vec<Record> {
    let mut records = Vec::new();
    let mut add = |name: String, first: Vec<Row>| {
        let later = later(&first);
        records.push(Record { person: person(&name), first, later });
    };
    let shared = shared_folder::shared_folder();
    let quirks = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/acceptance/analysts/quirks.ndjson");
    for (of, text) in [("own", quirks(&own)), ("shared", quirks(&shared.join("quirks/quirks.ndjson")))] {
        for (number, line) in text.lines().enumerate() {
            let Ok(quirk) = serde_json::from_str::<Quirk>(line) else { continue };
            let resources = quirk.resources.iter().map(|resource| resource.get().to_owned());
            add(format!("quirk-{of}-{number}"), rows(resources));
        }
    }
    let examples = fs::read_to_string(shared.join("r4-examples.ndjson")).unwrap_or_default();
    add("examples".to_owned(), rows(examples.lines().map(str::to_owned)));
    let folder = fs::read_dir(shared.join("us-core-7.0.0-examples")).into_iter().flatten();
    let mut files: Vec<_> = folder.filter_map(|file| Some(file.ok()?.path())).collect();
    files.sort();
    add("us-core".to_owned(), rows(files.iter().filter_map(|file| fs::read_to_string(file).ok())));
    let generated = Population::generated(2, 7);
    for id in generated.person_ids() {
        let resources = generated.entries(&id).iter().map(|entry| entry.resource.clone());
        add(id.clone(), rows(resources));
    }
    records
}

async fn pull<C: Candidate>(trial: &Trial<C>, person: &PersonId, rows: &[Row], seconds: i64) {
    let mut pull = Pull::full(person, at(seconds));
    let pages: Vec<&[Row]> = rows.chunks(PAGE_ROWS).collect();
    for page in pages.iter().take(pages.len().saturating_sub(1)) {
        trial.store(&mut pull, batch(page, PullProgress::Partial), at(seconds + 1)).await;
    }
    let last = pages.last().copied().unwrap_or_default();
    // It saw all of them in two walks, so that it may mark what it did not see.
    let end = batch(last, end_with_sweep(&[rows, rows], 1));
    trial.store(&mut pull, end, at(seconds + 2)).await;
}

/// Returns the rows of the analysts' tables, each type written in one way.
fn tables(kept: &Kept, names: &[String]) -> BTreeMap<String, Vec<BTreeMap<String, String>>> {
    let one_way = |cell: &String| parse_stamp(cell).map_or_else(|| cell.clone(), Timestamp::with_a_blank);
    let table = |name: &String| {
        let rows = kept.table(name).iter();
        let rows = rows.map(|row| row.iter().map(|(column, cell)| (column.clone(), one_way(cell))).collect());
        let mut rows: Vec<BTreeMap<String, String>> = rows.collect();
        rows.sort();
        (name.clone(), rows)
    };
    names.iter().map(table).collect()
}

/// Returns everything that an export reads, and what a view gives that is stored nowhere.
fn extracted(reader: &Reader, selection: Selection<'_>) -> Vec<String> {
    let snapshot = reader.snapshot().unwrap();
    let mut lines = vec![
        format!("{:?} {:?}", snapshot.base_url().unwrap(), snapshot.persons().unwrap()),
        format!("{:?}", snapshot.progress(selection.person).unwrap()),
        format!("{:?} {:?}", snapshot.removals_known_since().unwrap(), snapshot.last_purge().unwrap()),
    ];
    for known in snapshot.resource_types().unwrap() {
        let resources = snapshot.resources::<StoreFailed>(known, selection, |found| {
            lines.push(format!("{found:?}"));
            Ok(())
        });
        resources.unwrap();
        let gone = snapshot.gone::<StoreFailed>(known, selection, |found| {
            lines.push(format!("{} {found:?}", known.name));
            Ok(())
        });
        gone.unwrap();
    }
    for table in snapshot.tables().unwrap() {
        if table.name == "freshness" {
            continue;
        }
        let columns = table.columns.iter().map(|column| {
            let declared = if column.declared == "BOOLEAN" { "INTEGER" } else { &column.declared };
            format!("{} {declared}", column.name)
        });
        lines.push(format!("{} {:?} {:?}", table.name, table.sources, columns.collect::<Vec<_>>()));
        let rows = snapshot.rows::<StoreFailed>(&table, selection, |row| {
            lines.push(format!("{} {row:?}", table.name));
            Ok(())
        });
        rows.unwrap();
        let without = snapshot.without_rows::<StoreFailed>(&table, selection, |gone| {
            lines.push(format!("{} without {gone:?}", table.name));
            Ok(())
        });
        without.unwrap();
    }
    let definition = r#"{"resource":"Observation","select":[{"column":[{"name":"id","path":"id"}]}]}"#;
    let view = View::compile(&ViewDefinition::parse(definition).unwrap()).unwrap();
    let evaluation = Evaluation { now: at(0), several: Several::KeepFirst };
    let mut out = Vec::new();
    let run = reader.run_view(&view, evaluation, RowFormat::Csv, &mut out).unwrap();
    lines.push(format!("{} rows of a view", run.rows));
    lines.extend(String::from_utf8(out).unwrap().lines().map(str::to_owned));
    // In no order of their own.
    lines.sort();
    lines
}

fn assert_equal(sqlite: &Trial<SqliteCandidate>, postgres: &Trial<PostgresCandidate>, when: &str) {
    let views = &sqlite.candidate.place().views;
    let mut names: Vec<String> = views.iter().map(|view| view.name.clone()).collect();
    names.extend(["analyst_left_out", "live_resources"].map(str::to_owned));
    let [one, other] = [sqlite.kept(), postgres.kept()].map(|kept| tables(&kept, &names));
    for (name, expected) in &one {
        let found = &other[name];
        let only = |these: &[BTreeMap<String, String>], those: &[BTreeMap<String, String>]| {
            let only: Vec<_> = these.iter().filter(|row| !those.contains(row)).take(2).cloned().collect();
            format!("{only:#?}")
        };
        assert!(
            expected == found,
            "{when}: {name} has {} rows in SQLite and {} in PostgreSQL; only there: {} only here: {}",
            expected.len(),
            found.len(),
            only(expected, found),
            only(found, expected)
        );
    }
    assert!(one["observations"].len() > 100 && one["codings"].len() > 1_000 && !one["persons"].is_empty());
    assert!(one["medication_requests"].iter().any(|row| row.contains_key("medication_id")));
}

#[tokio::test]
async fn the_analysts_tables_of_both_engines_hold_the_same() {
    if !PostgresCandidate::is_here() {
        return;
    }
    let sqlite = Trial::<SqliteCandidate>::with([]).await;
    let postgres = Trial::<PostgresCandidate>::with([]).await;
    let records = records();
    let everyone: Vec<&str> = records.iter().map(|record| record.person.as_str()).collect();
    sqlite.begin_cycle(&everyone, at(0)).await;
    postgres.begin_cycle(&everyone, at(0)).await;
    for (seconds, Record { person, first, .. }) in (100..).step_by(10).zip(&records) {
        pull(&sqlite, person, first, seconds).await;
        pull(&postgres, person, first, seconds).await;
    }
    assert_equal(&sqlite, &postgres, "after the first pulls");
    for (seconds, Record { person, later, .. }) in (10_000..).step_by(10).zip(&records) {
        pull(&sqlite, person, later, seconds).await;
        pull(&postgres, person, later, seconds).await;
    }
    assert_equal(&sqlite, &postgres, "after changes and sweeps");
    for (only, since) in [(None, None), (None, Some(at(10_000))), (Some("us-core"), Some(at(0)))] {
        let selection = Selection { person: only, since };
        let [expected, found] = [sqlite.reader(), postgres.reader()].map(|it| extracted(&it, selection));
        assert!(expected.len() > 100, "{}", expected.len());
        for (line, other) in expected.iter().zip(&found) {
            assert_eq!(line, other, "{only:?} {since:?}");
        }
        assert_eq!(expected.len(), found.len());
    }
    let kept_up = postgres.kept();
    for warehouse in [sqlite.warehouse(), postgres.warehouse()] {
        assert!(warehouse.rebuild_views(at(20_000), |_| ()).await.unwrap().is_empty());
    }
    assert_equal(&sqlite, &postgres, "built anew");
    let names: Vec<String> = ["observations", "persons", "codings"].map(str::to_owned).to_vec();
    assert_eq!(tables(&kept_up, &names), tables(&postgres.kept(), &names));
}

/// The same story of some patients: those that fail, are held, refused, or were not pulled for long.
async fn live<C: Candidate>() -> Trial<C> {
    let trial = Trial::<C>::with(["anna", "ben", "cora", "dan", "eve"]).await;
    let [anna, ben, cora, dan] = ["anna", "ben", "cora", "dan"].map(person);
    for (seconds, who) in [(10, &anna), (20, &ben), (30, &cora)] {
        trial.pull(who, &[observation(1), condition(2)], at(seconds)).await;
    }
    trial.pull(&anna, &[observation(1)], at(40)).await;
    let pull_of_dan = Pull::full(&dan, at(50));
    trial.end(pull_of_dan.ended(PullOutcome::Failed, Some(setback(Event::PullFailed))), at(51)).await;
    let refused = Pull::full(&ben, at(60));
    trial.warehouse().note_refusal(&refused.head, refused.cost, at(61)).await.unwrap();
    let held = setback(Event::Held(HeldWhy::Many));
    kept(trial.warehouse().note_answer(&cora, held, at(62)).await.unwrap());
    let mut unfinished = Pull::full(&person("eve"), at(70));
    let mut page = batch(&[observation(5)], PullProgress::Partial);
    page.quarantined.push(quarantined("Observation/6"));
    trial.store(&mut unfinished, page, at(71)).await;
    trial
}

fn told<C: Candidate>(trial: &Trial<C>) -> String {
    let reader = trial.reader();
    let status = reader.status().unwrap();
    let request = OverviewRequest {
        behind_since: at(45),
        behind_max: 1,
        overlap: TimeDelta::seconds(5),
        purged_since: at(0),
        now: at(100),
        expiring_until: at(200),
        expiring_max: 3,
        purges_max: 3,
    };
    let mut overview = reader.overview(request).unwrap();
    assert!(overview.bytes.iter().all(|size| size.bytes > 0) || overview.bytes[0].file == "database");
    (overview.bytes, overview.disk_free) = (Vec::new(), None);
    // A file is one process's.
    overview.workers = None;
    let patients = serde_json::to_string_pretty(&status.patients).unwrap();
    let StatusReport { resources, quarantined, unscrubbed, .. } = status;
    let own: Vec<_> = status.patients.iter().map(|patient| (patient.listed, patient.holds_rows)).collect();
    format!("{patients}\n{own:?}\n{resources:?} {quarantined} {unscrubbed}\n{overview:#?}")
}

#[tokio::test]
async fn status_and_overview_tell_the_same_of_both_engines() {
    if !PostgresCandidate::is_here() {
        return;
    }
    let (sqlite, postgres) = (live::<SqliteCandidate>().await, live::<PostgresCandidate>().await);
    let (expected, found) = (told(&sqlite), told(&postgres));
    assert_eq!(expected, found);
    assert!(
        expected.contains("\"held_why\": \"many\"") && expected.contains("\"observation\": 4"),
        "{expected}"
    );
}
