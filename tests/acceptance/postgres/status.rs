//! What an onlooker is told of a warehouse in PostgreSQL: what is told of a file with the same in it.

use serde_json::Value;

use super::database::Database;
use crate::world::World;

/// Takes out what is not the same of two warehouses that were pulled into one after the other.
fn without_own(mut told: Value) -> Value {
    let of_its_own = [
        "warehouse",
        "watermark",
        "last_success_at",
        "last_full_at",
        "deletions_seen_at",
        "ledger",
        "workers",
    ];
    let mut values = vec![&mut told];
    while let Some(value) = values.pop() {
        match value {
            Value::Object(members) => {
                members.retain(|name, value| {
                    !(of_its_own.contains(&name.as_str()) || name.ends_with("_at") && value.is_string())
                });
                values.extend(members.values_mut());
            }
            Value::Array(elements) => values.extend(elements),
            _ => {}
        }
    }
    told
}

#[test]
fn the_status_of_a_server_is_that_of_a_file() {
    let world = World::generated(3);
    let Some(database) = Database::migrated(&world) else { return };
    let told = |ran: &crate::world::Ran| -> Value {
        without_own(
            serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout)),
        )
    };
    world.run(["sync", "--patient", "demo-01"]);
    database.run(&world, &["sync", "--patient", "demo-01"]);
    world.sandbox.put(&world.sandbox.person_ids()[0], None, r#"{"resourceType": "Nonsense", "id": "x"}"#);
    let (one, other) = (
        world.run(["sync", "--patient", "demo-01"]),
        database.run(&world, &["sync", "--patient", "demo-01"]),
    );
    assert_eq!(one.code, other.code, "{}", other.stderr);
    let expected = world.run(["status", "--json"]);
    let found = database.run(&world, &["status", "--json"]);
    assert_eq!(found.code, expected.code, "{}{}", found.stdout, found.stderr);
    assert_eq!(told(&found), told(&expected));
    let text = database.run(&world, &["status"]);
    text.says("demo-01").says("active").says_nothing_of("postgres@");
    let expected = world.run(["sync", "--dry-run", "--full", "--patient", "demo-01"]).exits(0);
    let found = database.run(&world, &["sync", "--dry-run", "--full", "--patient", "demo-01"]).exits(0);
    let resources = |text: &str| text.lines().find(|line| line.starts_with("resources")).unwrap().to_owned();
    assert_eq!(resources(&found.stdout), resources(&expected.stdout));
    database.run(&world, &["audit"]).exits(0).says("no purge");
}

#[test]
fn a_daemon_serves_its_page_its_metrics_and_its_health_from_a_server() {
    let world = World::for_daemons(2);
    let Some(database) = Database::migrated(&world) else { return };
    let url = format!("{:?}", database.url("healthex_worker"));
    let world = world.without("warehouse.path").set("warehouse.url", &url);
    let daemon = world.daemon();
    daemon.is_healthy();
    let metrics = daemon.waits("patients in step", || {
        let metrics = daemon.get("/metrics").body;
        metrics.contains("healthex_sync_patients{state=\"active\"} 2").then_some(metrics)
    });
    for file in ["tables", "indexes"] {
        let size = format!("healthex_sync_warehouse_bytes{{file=\"{file}\"}} ");
        let bytes =
            metrics.lines().find_map(|line| line.strip_prefix(&size)).unwrap_or_else(|| panic!("{metrics}"));
        assert!(bytes.parse::<f64>().unwrap() > 100_000.0, "{file} {bytes}");
    }
    let page = daemon.get("/").body;
    assert!(page.contains("All is well"), "{page}");
    daemon.stops();
}
