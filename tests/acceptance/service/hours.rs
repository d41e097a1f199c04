//! When cycles begin: in a time zone, and not within quiet hours.

use std::process::Command;

use super::{GOOD_CYCLES, world};
use crate::world::faketime;

#[test]
fn a_daily_cycle_follows_summer_time_and_quiet_hours_are_kept() {
    let Some(library) = faketime() else { return };
    let world = world(1, "0 0 8 * * *").set("sync.timezone", r#""Europe/Berlin""#);
    world.run(["sync"]).exits(0);
    let at = |time: &str| {
        let mut command: Command = world.command(["run"]);
        command.env("LD_PRELOAD", &library).env("FAKETIME", format!("@{time}"));
        command.env("TZ", "UTC").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    };
    // The evening before the clocks are set, and the evening after. Both have missed a cycle.
    for (now, next) in
        [("2027-03-27 20:00:00", "2027-03-28T06:00:00Z"), ("2027-10-30 20:00:00", "2027-10-31T07:00:00Z")]
    {
        let daemon = world.daemon_by(&mut at(now));
        daemon.shows(GOOD_CYCLES, |cycles| cycles == 1);
        world.run(["status"]).says(&format!("due at {next}"));
        daemon.stops();
    }

    // 12:00 in Berlin, and a cycle was missed: it waits for 18:00.
    world.change_setting("sync.schedule", r#""every 1s""#);
    world.change_setting("sync.not_between", r#""08:00-18:00""#);
    let daemon = world.daemon_by(&mut at("2027-12-01 11:00:00"));
    daemon.shows("healthex_sync_next_tick_timestamp_seconds", |next| next == 1_827_680_400);
    daemon.tells("WATCHDOG=1");
    assert_eq!(daemon.shows("healthex_sync_cycles_total{outcome=\"good\"}", |_| true), 0);
    daemon.stops();
    let daemon = world.daemon_by(&mut at("2027-12-01 16:59:57"));
    daemon.shows(GOOD_CYCLES, |cycles| cycles >= 2);
    let first = world.ask("SELECT min(started_at) FROM cycle WHERE started_at > '2027-12-01'");
    assert_eq!(first.as_deref(), Some("2027-12-01T17:00:00Z"));
    daemon.stops();
}

#[test]
fn a_zone_that_is_none_and_hours_that_are_none_are_refused_with_their_keys() {
    let world = world(1, "every 1s").set("sync.timezone", r#""Europe/Berlyn""#);
    world.change_setting("sync.not_between", r#""8 to 18""#);
    let ran = world.run(["check"]).exits(2);
    ran.says("sync.timezone: \"Europe/Berlyn\" is not an IANA time zone")
        .says("sync.not_between: \"8 to 18\"");
}
