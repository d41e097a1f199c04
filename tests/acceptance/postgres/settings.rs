//! What says which server the warehouse is on. Nothing of it needs one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::world::World;

const URL: &str = r#""postgres://healthex_worker@127.0.0.1:1/study""#;

fn world() -> World {
    World::with_patients(["anna"]).without("warehouse.path").set("warehouse.url", URL)
}

#[test]
fn a_password_in_the_url_is_refused_and_not_repeated() {
    for url in [
        r#""postgres://healthex_worker:canary-word@127.0.0.1:1/study""#,
        r#""postgres://healthex_worker@127.0.0.1:1/study?password=canary-word""#,
    ] {
        let ran = world().set("warehouse.url", url).run(["sync"]).exits(2);
        ran.says("warehouse.url: must hold no password")
            .says("warehouse.password_file")
            .says_nothing_of("canary-word");
    }
}

#[test]
fn a_file_and_a_server_exclude_each_other() {
    let world = world().set("warehouse.path", r#""data/warehouse.db""#);
    world.run(["check", "--offline"]).exits(2).says("warehouse.path and warehouse.url exclude each other");
    assert!(!world.path("data").exists());
}

#[test]
fn a_password_file_is_its_owners_alone_and_holds_one_line() {
    let world = world();
    world.write_private("db-password", "canary-word\n");
    let ran = world.run(["sync"]).exits(5);
    ran.says("postgres://healthex_worker@127.0.0.1:1/study").says_nothing_of("canary-word");
    fs::set_permissions(world.path("db-password"), Permissions::from_mode(0o644)).unwrap();
    let command = format!("chmod 600 {}", world.path("db-password").display());
    world.run(["sync"]).exits(2).says(&command).says_nothing_of("canary-word");
    world.write_private("db-password", "canary-word\nanother\n");
    world.run(["sync"]).exits(2).says("one line of text").says_nothing_of("canary-word");
}

#[test]
fn what_the_warehouse_is_stays_until_a_restart() {
    let world = World::for_daemons(1);
    let daemon = world.daemon();
    daemon.says("status page at");
    let server = r#""postgres://healthex_worker@127.0.0.1:1/study""#;
    let world = world.without("warehouse.path").set("warehouse.url", server);
    daemon.hang_up();
    daemon.says("in force only after a restart: warehouse.path, warehouse.url");
    daemon.stops();
    drop(world);
}
