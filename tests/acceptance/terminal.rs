//! What is seen on a terminal, and what a pipe gets instead.

use std::fs::File;
use std::io::Read;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use healthex_sync::sandbox::Population;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::world::{World, record, wait_until};

const ROWS: u16 = 90;

fn size_of(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap()
}

/// A process whose streams are a terminal of its own.
struct Terminal {
    child: Child,
    screen: Arc<Mutex<vt100::Parser>>,
    /// Every byte it wrote.
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(command: &mut Command, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let line = || Stdio::from(File::options().read(true).write(true).open(&name).unwrap());
        let (stdin, stdout, stderr) = (line(), line(), line());
        command.env("TERM", "xterm");
        let child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
        // The command still holds this side of the terminal, which would keep it open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size_of(ROWS), size_of(columns), 0)));
        let written = Arc::new(Mutex::new(Vec::new()));
        read_along(master, screen.clone(), written.clone());
        Self { child, screen, written }
    }

    fn lines(&self) -> Vec<String> {
        let screen = self.screen.lock().unwrap();
        let columns = screen.screen().size().1;
        screen.screen().rows(0, columns.get()).collect()
    }

    fn shows(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), signal).unwrap();
    }

    #[track_caller]
    fn ends(&mut self, code: i32) {
        wait_until("the process has ended", || self.child.try_wait().unwrap().is_some());
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{status}: {}", self.lines().join("\n"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_along(master: OwnedFd, screen: Arc<Mutex<vt100::Parser>>, written: Arc<Mutex<Vec<u8>>>) {
    thread::spawn(move || {
        let mut master = File::from(master);
        let mut bytes = [0; 4096];
        // When the last process has closed the other side, reading is an error.
        while let Ok(length @ 1..) = master.read(&mut bytes) {
            written.lock().unwrap().extend_from_slice(&bytes[..length]);
            screen.lock().unwrap().process(&bytes[..length]);
        }
    });
}

/// Two long labels that differ at their ends, a failure with much to say, and one that has left.
fn world_with_much_to_say() -> World {
    let world = World::with_patients(["anna", "ben", "cleo"]);
    world.list(&["anna", "ben", "cleo"]);
    world.run(["sync"]).exits(0);
    let label = "a-study-with-a-name-that-no-column-was-made-for";
    world.write_roster(&format!(
        "[[patient]]\nid = \"anna\"\nlabel = \"{label}-0001\"\n[[patient]]\nid = \"ben\"\nlabel = \"{label}-0002\"\n"
    ));
    world.fault("kind = 'status', status = 503, person = 'anna'");
    world.run(["sync"]).exits(3);
    world
}

#[test]
fn status_fits_80_columns_and_keeps_labels_apart() {
    let world = world_with_much_to_say();
    let ran = world.run(["status"]).exits(3);
    for line in ran.stdout.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    assert!(ran.stdout.contains("-0001  failing") && ran.stdout.contains("-0002  active"), "{ran}");
    assert!(ran.stdout.contains("cleo") && ran.stdout.contains("not on the roster"), "{ran}");
    assert!(!ran.stdout.contains('\x1b'), "a colour in a pipe: {ran}");
    // Nothing is lost: the whole label and reason are in the JSON.
    let json = world.run(["status", "--json"]).exits(3).json();
    let patients = json["patients"].as_array().unwrap();
    let anna = patients.iter().find(|patient| patient["id"] == "anna").unwrap();
    assert!(anna["label"].as_str().unwrap().ends_with("made-for-0001"), "{anna}");
    let reason = anna["last_error"].as_str().unwrap();
    let shown: Vec<&str> = ran.stdout.split_whitespace().collect();
    assert!(shown.join(" ").contains(reason), "{reason} is not in {ran}");
}

#[test]
fn status_uses_the_width_of_a_terminal_and_its_colours() {
    let world = world_with_much_to_say();
    let mut wide = Terminal::start(world.command(["status"]).env_remove("NO_COLOR"), 120);
    wide.ends(3);
    wait_until("all is shown", || wide.shows("3 patients ("));
    assert!(
        wide.shows("a-study-with-a-name-that-no-column-was-made-for-0001  failing"),
        "{:?}",
        wide.lines()
    );
    assert!(wide.written().contains("\x1b[32mactive"), "{}", wide.written());

    let mut plain = Terminal::start(world.command(["status"]).env("NO_COLOR", "1"), 80);
    plain.ends(3);
    wait_until("all is shown", || plain.shows("3 patients ("));
    assert!(!plain.written().contains('\x1b'), "{}", plain.written());
}

#[test]
fn a_watch_is_renewed_in_place_and_ends_well_by_either_signal() {
    let world = World::with_patients(["anna", "ben"]);
    world.list(&["anna"]);
    world.run(["sync"]).exits(0);
    for signal in [Signal::INT, Signal::TERM] {
        let mut watch = Terminal::start(&mut world.command(["status", "--watch"]), 80);
        wait_until("the table is shown", || watch.shows("Ctrl-C ends it"));
        assert!(watch.lines()[0].starts_with("patient"), "{:?}", watch.lines());
        world.list(&["anna", "ben"]);
        world.run(["sync"]).exits(0);
        wait_until("it is renewed", || watch.shows("2 patients ("));
        assert!(watch.lines()[0].starts_with("patient"), "{:?}", watch.lines());
        watch.signal(signal);
        watch.ends(0);
    }
}

#[test]
fn a_watch_ends_with_the_reader_of_its_output() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    let mut command = world.command(["status", "--watch"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 7];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"patient");
    drop(stdout);
    wait_until("it has ended", || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// A glyph of a bar that is half full, or empty.
fn is_a_bar(line: &str) -> bool {
    line.contains('█') || line.contains('░')
}

fn world_of_four() -> World {
    let mut population = Population::empty();
    for person in ["anna", "ben", "cleo", "dora"] {
        population.add_person(person, record(person, 33));
    }
    let world = World::serving(population).set("sync.page_size", "10").set("sync.concurrency", "2");
    let roster = ["anna", "ben", "cleo", "dora"]
        .map(|id| format!("[[patient]]\nid = \"{id}\"\nlabel = \"study-{id:.1}\"\n"));
    world.write_roster(&roster.join("\n"));
    world
}

#[test]
fn sync_shows_a_bar_for_each_pull_under_way_and_one_for_all() {
    let world = world_of_four();
    world.fault("kind = 'stall_before_headers', page = 2, times = 2");
    let mut sync = Terminal::start(&mut world.command(["sync"]), 100);
    wait_until("two pulls are under way", || {
        let lines = sync.lines();
        let pulls = lines.iter().filter(|line| line.contains("study-") && line.contains("10/35"));
        pulls.count() == 2 && lines.iter().any(|line| line.contains("0/4 patients"))
    });
    let bars: Vec<String> = sync.lines().into_iter().filter(|line| is_a_bar(line)).collect();
    assert_eq!(bars.len(), 3, "{bars:?}");
    assert!(bars[2].contains("patients"), "{bars:?}");
    assert!(!bars.iter().any(|bar| bar.contains("anna") || bar.contains("ben")), "an id: {bars:?}");
    sync.ends(0);
    wait_until("the summary is shown", || sync.shows("transfer"));
    let lines = sync.lines();
    assert!(!lines.iter().any(|line| is_a_bar(line)), "{lines:?}");
    assert!(lines[0].starts_with("patients   4: 4 ok"), "{lines:?}");
}

#[test]
fn log_lines_and_bars_do_not_tear_each_other() {
    let world = world_of_four();
    world.fault("kind = 'status', status = 503, times = 12");
    // Time for bars to be drawn in between.
    world.change_setting("api.retry_initial", r#""100ms""#);
    world.change_setting("api.retry_max", r#""200ms""#);
    world.change_setting("api.max_attempts", "20");
    let mut sync = Terminal::start(world.command(["-v", "sync"]).env("NO_COLOR", "1"), 160);
    sync.ends(0);
    wait_until("the summary is shown", || sync.shows("transfer"));
    let lines = sync.lines();
    let (said, summary): (Vec<&String>, Vec<&String>) = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .partition(|line| line.starts_with("20") && line.contains("DEBUG"));
    assert_eq!(said.iter().filter(|line| line.contains("trying again")).count(), 12, "{lines:#?}");
    assert_eq!(summary.len(), 3, "{lines:#?}");
}
