//! What `docs/monitoring` says of the metrics, held against those that are served.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::world;
use crate::world::{pipe, project, tool};

fn document(name: &str) -> String {
    fs::read_to_string(project("docs/monitoring").join(name)).unwrap()
}

/// The metrics that a scrape has, with their types.
fn served(metrics: &str) -> BTreeSet<(String, String)> {
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

/// The metrics in the table of the README, with their types.
fn documented() -> BTreeSet<(String, String)> {
    let text = document("README.md");
    let rows =
        text.lines().filter_map(|line| line.strip_prefix("| `")).map(|row| row.split_once("` | ").unwrap());
    rows.map(|(name, rest)| {
        let (kind, meaning) = rest.split_once(" | ").unwrap();
        assert!(meaning.len() > 10, "{name} has no meaning");
        (name.split('{').next().unwrap().to_owned(), kind.to_owned())
    })
    .collect()
}

/// The names of metrics that rules or a dashboard ask for.
fn asked_for(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    let names = words.filter(|word| word.starts_with("healthex_sync_") || word.starts_with("process_"));
    names.map(|name| name.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn each_metric_is_documented_and_each_documented_one_is_served() {
    let world = world(1, "every 1s");
    let daemon = world.daemon();
    daemon.is_healthy();
    // One of a kind appears with its first request.
    let metrics = daemon.waits("metrics of requests", || {
        let metrics = daemon.get("/metrics").body;
        metrics.contains("healthex_sync_requests_total{").then_some(metrics)
    });
    assert_eq!(served(&metrics), documented());
    let names: BTreeSet<String> = documented().into_iter().map(|(name, _)| name).collect();
    for file in ["rules.yml", "dashboard.json"] {
        let unknown: Vec<String> = asked_for(&document(file)).difference(&names).cloned().collect();
        assert_eq!(unknown, Vec::<String>::new(), "{file} asks for what there is not");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&document("dashboard.json")).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
    let shown: Vec<String> = names.difference(&asked_for(&document("dashboard.json"))).cloned().collect();
    assert!(shown.len() < names.len() / 3, "the dashboard leaves out {shown:?}");

    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {metrics}")).parse::<f64>().unwrap()
    };
    assert!(value("process_cpu_seconds_total") > 0.0);
    let free = value("healthex_sync_disk_free_bytes");
    assert!(if world.is_on_server() { free.is_nan() } else { free > 0.0 }, "{free}");
    assert!(value("healthex_sync_request_duration_seconds_count") >= 1.0);
    world.fault("kind = 'status', status = 503, times = 1");
    daemon.shows("healthex_sync_retries_total", |retries| retries >= 1);
    daemon.stops();
}

#[test]
fn promtool_takes_the_rules() {
    let Some(promtool) = tool("promtool") else { return };
    let rules = project("docs/monitoring/rules.yml");
    let (is_fine, said) = pipe(Command::new(promtool).args(["check", "rules"]).arg(rules), "");
    assert!(is_fine && said.contains("SUCCESS"), "{said}");
}
