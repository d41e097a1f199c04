//! What is PostgreSQL's own about the analysts' tables: what an index takes, what a table that fails does, rights.

use super::candidate::PostgresCandidate;
use super::view_cells::INDEXED_BYTES_MAX;
use crate::plan::row::{Row, row_of};
use crate::plan::table_set::TableSet;
use crate::views::analyst_tables;
use crate::warehouse::Warehouse;
use crate::warehouse::conformance::{Candidate, KeptRow, Pull, Trial, at, batch, end, person};
use crate::warehouse::patient::RosterReading;
use crate::warehouse::place::OtherServer;

fn observation(number: u32, code: &str, system: &str) -> Row {
    let resource = format!(
        r#"{{"resourceType":"Observation","id":"o{number}","status":"final",
            "code":{{"coding":[{{"code":"{code}","system":"{system}"}}]}}}}"#
    );
    row_of(&format!("Observation/{number}"), &resource).unwrap()
}

/// Text that no compression makes shorter.
fn noise(bytes: usize) -> String {
    let mut state = 1u64;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from((state >> 33) % 70).unwrap())
    });
    letters.filter(|letter| *letter != '\\').take(bytes).collect()
}

async fn store(trial: &Trial<PostgresCandidate>, rows: &[Row]) {
    let mut pull = Pull::full(&person("anna"), at(10));
    trial.store(&mut pull, batch(rows, end(rows, at(10))), at(10)).await;
}

fn observations(trial: &Trial<PostgresCandidate>) -> Vec<KeptRow> {
    trial.kept().table("observations").to_vec()
}

#[tokio::test]
async fn a_cell_that_no_index_takes_is_null_and_fails_nothing() {
    if !PostgresCandidate::is_here() {
        return;
    }
    let trial = Trial::<PostgresCandidate>::with(["anna"]).await;
    let limit = INDEXED_BYTES_MAX / 3 * 2;
    let (fits, does_not) = (noise(limit), noise(INDEXED_BYTES_MAX + 1));
    let rows = [observation(1, &fits, &fits), observation(2, &does_not, "urn:system")];
    store(&trial, &rows).await;
    let kept = trial.kept();
    let codes = kept.table("codings").iter().map(|row| row.get("code").cloned());
    assert_eq!(codes.collect::<Vec<_>>(), [Some(fits), None]);
    let kept = observations(&trial);
    assert_eq!(kept.iter().filter(|row| row.contains_key("code")).count(), 1);
    assert_eq!(kept.len(), 2);
}

#[tokio::test]
async fn a_table_that_fails_fails_no_page_and_is_built_anew() {
    if !PostgresCandidate::is_here() {
        return;
    }
    let mut trial = Trial::<PostgresCandidate>::with(["anna"]).await;
    trial.candidate.run("ALTER TABLE observations DROP COLUMN value_text CASCADE");
    let rows = [observation(1, "1", "urn:a"), observation(2, "2", "urn:b")];
    store(&trial, &rows).await;
    let kept = trial.kept();
    assert_eq!((kept.table("observation").len(), kept.table("observations").len()), (2, 0));
    assert_eq!((kept.table("codings").len(), kept.table("persons").len()), (2, 1));
    // It is known not to be kept up, which keeps nobody from being pulled.
    trial.reopen();
    trial.begin_cycle(&["anna"], at(20)).await;
    assert!(trial.warehouse().rebuild_views(at(30), |_| ()).await.unwrap().is_empty());
    assert_eq!(observations(&trial).len(), 2);
    trial.reopen();
    store(&trial, &[observation(3, "3", "urn:c")]).await;
    assert_eq!(observations(&trial).len(), 3);
}

#[tokio::test]
async fn whoever_keeps_other_tables_pulls_nobody_until_they_are_made() {
    if !PostgresCandidate::is_here() {
        return;
    }
    let mut trial = Trial::<PostgresCandidate>::with(["anna"]).await;
    store(&trial, &[observation(1, "1", "urn:a")]).await;
    trial.close();
    let mut place = trial.candidate.place().clone();
    place.views = analyst_tables(&[TableSet::Surveys], None).tables.into();
    let other = Warehouse::open(&place, OtherServer::Refuse, at(20)).unwrap();
    let roster = || RosterReading::of_files(Vec::new());
    let refused = other.begin_cycle(roster(), at(20)).await.unwrap_err().to_string();
    for part in ["observations", "questionnaire_answers", "run `healthex-sync views apply`"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert!(other.rebuild_views(at(30), |_| ()).await.unwrap().is_empty());
    drop(other);
    let other = Warehouse::open(&place, OtherServer::Refuse, at(40)).unwrap();
    other.begin_cycle(roster(), at(40)).await.unwrap();
    let kept = trial.kept();
    assert!(kept.0.contains_key("questionnaire_answers") && !kept.0.contains_key("observations"));
    assert_eq!(kept.table("observation").len(), 1);
}

#[tokio::test]
async fn a_table_that_is_built_anew_may_be_read_by_whoever_may_read_what_its_columns_are() {
    if !PostgresCandidate::is_here() {
        return;
    }
    let trial = Trial::<PostgresCandidate>::with(["anna"]).await;
    trial.candidate.run(
        "DO $$ BEGIN CREATE ROLE an_analyst; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         GRANT SELECT ON analyst_column TO an_analyst",
    );
    assert!(trial.warehouse().rebuild_views(at(30), |_| ()).await.unwrap().is_empty());
    for (table, right, expected) in [
        ("observations", "SELECT", true),
        ("lab_results", "SELECT", true),
        ("persons", "SELECT", true),
        ("persons", "DELETE", false),
        ("checkpoint", "SELECT", false),
    ] {
        let asks = format!("SELECT has_table_privilege('an_analyst', 'healthex.{table}', '{right}')");
        assert_eq!(trial.candidate.says(&asks), expected, "{right} on {table}");
    }
}
