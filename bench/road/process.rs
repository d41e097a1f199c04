//! Runs processes and measures their cost: time, memory and bytes written.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    /// The most that was resident.
    pub(crate) rss_bytes: u64,
    /// Handed to the disk.
    pub(crate) written_bytes: u64,
}

/// How often the memory of a process is sampled; only its last moments can be missed.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(2);

/// Runs a command to its end. Returns what it printed, and what it cost. Its stderr goes into
/// `folder`.
pub(crate) fn run(command: &mut Command, folder: &Path) -> (String, Cost) {
    let (out, err) = (folder.join("stdout"), folder.join("stderr"));
    command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    let id = child.id();
    let ended = AtomicBool::new(false);
    let (seconds, rss_bytes) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !ended.load(Ordering::Relaxed) {
                most = most.max(number_in(&format!("/proc/{id}/status"), "VmHWM:") * 1024);
                thread::sleep(SAMPLE_INTERVAL);
            }
            most
        });
        // Left as a zombie, whose counts can still be read.
        let pid = Pid::from_raw(id.cast_signed()).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        (seconds, watch.join().unwrap())
    });
    let written_bytes = number_in(&format!("/proc/{id}/io"), "write_bytes:");
    let status = child.wait().unwrap();
    let printed = fs::read_to_string(&out).unwrap();
    assert!(status.success(), "{command:?}: {status}\n{printed}{}", fs::read_to_string(&err).unwrap());
    (printed, Cost { seconds, rss_bytes, written_bytes })
}

/// Measures work of the bench's own process: what it wrote, and how long it took.
pub(crate) fn measure<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let written = || number_in("/proc/self/io", "write_bytes:");
    let before = written();
    let begun = Instant::now();
    let result = work();
    let seconds = begun.elapsed().as_secs_f64();
    (result, Cost { seconds, rss_bytes: 0, written_bytes: written() - before })
}

pub(crate) fn number_in(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
