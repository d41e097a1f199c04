//! Alerts that arrive: webhook, kinds, reminders, and whether they would.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use serde_json::Value;

use super::world;
use crate::world::{DEADLINE, World};

/// A server that keeps what is posted to it.
fn webhook() -> (mpsc::Receiver<Value>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook/very-secret", listener.local_addr().unwrap());
    let (sender, posts) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = Vec::new();
            let mut some = [0; 4096];
            let body = loop {
                let length = stream.read(&mut some).unwrap();
                request.extend_from_slice(&some[..length]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
                if length == 0 || body.as_ref().is_some_and(|body| body.ends_with('}')) {
                    break body.unwrap_or_default();
                }
            };
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            if let Ok(body) = serde_json::from_str(&body) {
                let _ = sender.send(body);
            }
        }
    });
    (posts, url)
}

fn with_webhook(world: &World) -> mpsc::Receiver<Value> {
    let (posts, url) = webhook();
    world.change_setting("alert.webhook_url", &format!("{url:?}"));
    posts
}

#[track_caller]
fn next(posts: &mpsc::Receiver<Value>) -> Value {
    posts.recv_timeout(DEADLINE).expect("a post")
}

#[test]
fn a_webhook_is_told_once_again_after_a_while_and_when_it_is_over() {
    let world =
        world(2, "every 1s").set("alert.reminder", r#""2s""#).set("alert.kinds", r#"["credentials"]"#);
    let posts = with_webhook(&world);
    world.sandbox.reject_credentials(true);
    let daemon = world.daemon();
    let began = next(&posts);
    assert_eq!((&began["kind"], &began["phase"]), (&"credentials".into(), &"problem".into()), "{began}");
    assert!(began["text"].as_str().unwrap().starts_with("healthex-sync: the credentials were refused"));
    assert!(began["since"].is_string() && began["at"].is_string() && began["version"].is_string(), "{began}");
    let again = next(&posts);
    assert_eq!((&again["phase"], &again["since"]), (&"reminder".into(), &began["since"]), "{again}");
    assert!(again["text"].as_str().unwrap().starts_with("healthex-sync: still: "), "{again}");
    world.sandbox.reject_credentials(false);
    // Another reminder may be under way.
    let over = std::iter::repeat_with(|| next(&posts)).find(|post| post["phase"] != "reminder").unwrap();
    assert_eq!(over["phase"], "over", "{over}");

    // A kind that nobody wants is not told.
    world.sandbox.withdraw("sandbox-0002");
    daemon.shows("healthex_sync_purges_total{reason=\"consent_revoked\"}", |purges| purges == 1);
    assert!(
        !daemon.log().iter().any(|line| line.contains("very-secret")),
        "the webhook's address is a secret"
    );
    daemon.stops();
    assert!(posts.try_iter().all(|post| post["kind"] == "credentials"));
}

#[test]
fn the_purges_of_a_cycle_are_one_post() {
    let world = world(8, "every 1s").set("consent.hold_after", "100");
    let daemon = world.daemon();
    daemon.shows("healthex_sync_patients{state=\"active\"}", |active| active == 8);
    let posts = with_webhook(&world);
    // All withdraw before the cycle that finds it: the daemon is told of the webhook between two.
    world.change_setting("sync.schedule", r#""every 7d""#);
    world.run(["reload"]).exits(0);
    for number in 1..=3 {
        world.sandbox.withdraw(&format!("sandbox-{number:04}"));
    }
    world.change_setting("sync.schedule", r#""every 1s""#);
    world.run(["reload"]).exits(0);
    let purged = next(&posts);
    assert_eq!((&purged["kind"], &purged["phase"]), (&"purge".into(), &"event".into()), "{purged}");
    let text = purged["text"].as_str().unwrap();
    assert_eq!(text.matches(" was purged: ").count(), 3, "{text}");
    daemon.stops();
}

#[test]
fn check_tries_what_run_needs() {
    let world = world(1, "every 7d");
    world.run(["check"]).exits(0).says("ok      http.listen").says("ok      account").says("ok      folder");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    world.change_setting("http.listen", &format!("\"{address}\""));
    world.run(["check"]).exits(1).says("FAILED  http.listen").says(&address.to_string());
    world.change_setting("http.listen", r#""127.0.0.1:0""#);
    world.change_setting("http.token_file", r#""nowhere""#);
    world.run(["check"]).exits(1).says("FAILED  http.listen").says("nowhere");
    world.write_private("nowhere", "letmein");
    world.change_setting("alert.command", r#"["no-such-program"]"#);
    world.run(["check"]).exits(2).says("FAILED  alert.command").says("no-such-program");
    world.change_setting("alert.command", r#"["true"]"#);
    world.change_setting("alert.heartbeat_url", r#""http://127.0.0.1:1/secret-beat""#);
    world
        .run(["check"])
        .exits(1)
        .says("FAILED  alert.heartbeat_url  127.0.0.1:1")
        .says_nothing_of("secret-beat");
    world.run(["check", "--offline"]).exits(0).says("ok      alert.command");
    world.change_setting("alert.heartbeat_url", r#""""#);

    let posts = with_webhook(&world);
    world.run(["check"]).exits(0).says("ok      alert.webhook_url").says_nothing_of("very-secret");
    assert!(posts.try_recv().is_err());
    world.run(["check", "--send-test-alert"]).exits(0).says("a test was sent");
    let test = next(&posts);
    assert_eq!((&test["kind"], &test["phase"]), (&"test".into(), &"test".into()), "{test}");
    let json = world.run(["check", "--json"]).exits(0).json();
    assert_eq!(json["ok"], true);
    let checks = json["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["check"] == "credentials" && check["ok"] == true), "{json}");
    world.change_setting("alert.command", r#"["false"]"#);
    let json = world.run(["check", "--send-test-alert", "--json"]).exits(1).json();
    assert_eq!((&json["ok"], &json["exit_status"]), (&false.into(), &1.into()), "{json}");
}
