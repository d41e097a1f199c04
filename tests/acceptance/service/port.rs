//! The status port as a stranger on the same machine meets it: crowded, fed with bodies, read.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{GOOD_CYCLES, world};
use crate::support::skip;
use crate::world::{DEADLINE, Daemon, get};

/// More than any table of open files had room for once.
const CROWD: usize = 1_100;

/// Lets this process open a crowd's files.
fn allow_a_crowd() -> bool {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = 4 * CROWD as u64;
    let allowed = maximum.is_none_or(|maximum| wanted <= maximum)
        && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok();
    if !allowed {
        skip("this machine does not let a process open 4,400 files");
    }
    allowed
}

/// So many connections, every other of which has begun a request.
fn crowd(address: &str) -> Vec<TcpStream> {
    let connect = |number| {
        let mut stream = TcpStream::connect(address).unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
        }
        stream
    };
    (0..CROWD).map(connect).collect()
}

#[test]
fn a_crowd_that_says_nothing_changes_neither_cycles_nor_answers() {
    if !allow_a_crowd() {
        return;
    }
    let world = world(2, "every 1s");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 64 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_healthex-sync")]);
    let daemon = world.daemon_by(command.arg("--config").arg(world.config()).arg("run"));
    daemon.is_healthy();
    let mut crowd = crowd(&daemon.address());
    let asked = Instant::now();
    daemon.is_healthy();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    if let Ok(files) = fs::read_dir(format!("/proc/{}/fd", daemon.pid())) {
        let open = files.count();
        assert!(open < 100, "{open} files are open");
    }
    let at_first = daemon.shows(GOOD_CYCLES, |_| true);
    daemon.shows(GOOD_CYCLES, |cycles| cycles >= at_first + 2);
    assert_eq!(daemon.shows("healthex_sync_problem{problem=\"warehouse\"}", |_| true), 0);

    // Nobody is left of them.
    for stream in &mut crowd {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut rest = Vec::new();
        let left = stream.read_to_end(&mut rest);
        assert!(left.is_ok() || left.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    }
    daemon.stops();
}

#[test]
fn a_body_and_a_head_without_end_are_refused() {
    let world = world(1, "every 1s");
    let daemon = world.daemon();
    let answer = |head: &str| get(&daemon.address(), "/healthz", head);
    assert_eq!(answer("Content-Length: 5\r\n").status, 413);
    assert_eq!(answer("Transfer-Encoding: chunked\r\n").status, 413);
    // Closed before all of it is written, with or without a word.
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    let filler = "x".repeat(1_000_000);
    let _ = write!(stream, "GET / HTTP/1.1\r\nX-Filler: {filler}");
    let mut said = String::new();
    let _ = stream.read_to_string(&mut said);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    let head = answer("").head.to_ascii_lowercase();
    assert!(head.contains("cross-origin-resource-policy: same-origin"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    daemon.stops();
}

/// Asks through a Unix socket.
fn page_through(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: any.example\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Waits for a page that says how the last cycle ended.
fn page_with(daemon: &Daemon, what: &str, look: impl Fn() -> String) -> String {
    daemon.waits(what, || Some(look()).filter(|page| page.contains(what)))
}

#[test]
fn patients_are_named_only_to_who_has_the_token_or_may_open_the_socket() {
    // Everything that can name a patient: one behind, one held, one purged, and a problem.
    let world = world(4, "every 1s").set("alert.stale_after", r#""1s""#);
    world.sandbox.remove_person("sandbox-0002");
    let expects = |daemon: &Daemon, look: &dyn Fn() -> String, named: bool| {
        page_with(daemon, "Purged in the last 30 days", look);
        page_with(daemon, "patients are behind", look);
        let page = page_with(daemon, "Who is behind, and why", look);
        assert_eq!(page.contains("demo-02"), named, "{page}");
        assert_eq!(page.contains("sandbox-0003"), named, "{page}");
        assert_eq!(page.contains("names no patient"), !named, "{page}");
        assert!(named || !(page.contains("demo-0") || page.contains("sandbox-0")), "{page}");
    };
    let daemon = world.daemon();
    daemon.is_healthy();
    world.run(["purge", "sandbox-0003", "--yes"]).exits(0);
    expects(&daemon, &|| daemon.get("/").body, false);
    daemon.stops();

    let world = world.with_page_token("letmein");
    let daemon = world.daemon();
    expects(&daemon, &|| daemon.get("/").body, true);
    daemon.stops();

    world.change_setting("http.token_file", r#""""#);
    world.change_setting("http.listen", r#""unix:http.socket""#);
    let socket = world.path("http.socket");
    let daemon = world.daemon();
    daemon.says("status page at unix:");
    expects(&daemon, &|| page_through(&socket), true);
    let found = fs::symlink_metadata(&socket).unwrap();
    assert!(found.file_type().is_socket() && found.mode() & 0o777 == 0o600, "{:o}", found.mode());
    // A killed one leaves its socket to the next, which removes it at its end.
    daemon.kill();
    let daemon = world.daemon();
    daemon.says("status page at unix:");
    page_through(&socket);
    daemon.stops();
    assert!(!socket.exists());

    fs::write(&socket, "somebody's").unwrap();
    let mut daemon = world.daemon();
    daemon.ends().exits(1).says("there is something that is no socket");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "somebody's");
}
