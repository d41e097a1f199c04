//! The way of a log line: it waits in a queue for whoever reads, and nobody waits for it.
//!
//! Promise: no work stops because a log is not read. What does not fit is lost, and how much that
//! was is the next thing that is written. Absent on purpose: what a line says, and where it goes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that may wait.
const LINES_MAX: usize = 1024;
/// Longer lines are cut: with the line count, it bounds what a log holds in memory.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// How it is said that lines were lost.
#[derive(Clone, Copy, Debug)]
pub(super) enum LossForm {
    Text,
    Json,
}

const LOOK_AGAIN: Duration = Duration::from_millis(5);

enum Message {
    Lines(Vec<u8>),
    /// Answered once all before it is written.
    Flush(SyncSender<()>),
}

struct Queue {
    messages: SyncSender<Message>,
    lost: &'static AtomicU64,
}

static QUEUE: OnceLock<Option<Queue>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);

/// Starts the thread that writes, unless there is one.
pub(super) fn start(write: fn(&[u8]), losses: LossForm) {
    QUEUE.get_or_init(|| Queue::start(write, losses, &LOST));
}

/// Puts lines into the queue, or counts them as lost.
pub(super) fn write(lines: Vec<u8>) {
    if let Some(Some(queue)) = QUEUE.get() {
        queue.write(lines);
    }
}

/// Waits until all is written, or for as long as `patience` lasts.
pub(super) fn flush(patience: Duration) {
    if let Some(Some(queue)) = QUEUE.get() {
        queue.flush(patience);
    }
}

impl Queue {
    fn start(write: fn(&[u8]), losses: LossForm, lost: &'static AtomicU64) -> Option<Self> {
        let (messages, waiting) = sync_channel(LINES_MAX);
        let work = move || write_all(&waiting, write, losses, lost);
        // Without a thread there is no log, and everything else goes on.
        thread::Builder::new().name("log".to_owned()).spawn(work).ok()?;
        Some(Self { messages, lost })
    }

    fn write(&self, mut lines: Vec<u8>) {
        if lines.len() > LINE_BYTES_MAX {
            lines.truncate(LINE_BYTES_MAX - 1);
            lines.push(b'\n');
        }
        if self.messages.try_send(Message::Lines(lines)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, patience: Duration) {
        let ends = Instant::now() + patience;
        let (written, answer) = sync_channel(1);
        let mut flush = Message::Flush(written);
        while let Err(TrySendError::Full(back)) = self.messages.try_send(flush) {
            if ends <= Instant::now() {
                return;
            }
            flush = back;
            thread::park_timeout(LOOK_AGAIN);
        }
        let left = ends.saturating_duration_since(Instant::now());
        // Nobody reads, or the thread is gone: either way it is time to go.
        let _ = answer.recv_timeout(left);
    }
}

fn write_all(waiting: &Receiver<Message>, write: fn(&[u8]), losses: LossForm, lost: &AtomicU64) {
    while let Ok(message) = waiting.recv() {
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            write(&say_lost(losses, count));
        }
        match message {
            Message::Lines(lines) => write(&lines),
            Message::Flush(written) => drop(written.send(())),
        }
    }
}

fn say_lost(losses: LossForm, count: u64) -> Vec<u8> {
    let what = "lines of this log were lost, because nobody read it";
    let line = match losses {
        LossForm::Text => format!("{count} {what}\n"),
        LossForm::Json => format!("{{\"level\":\"WARN\",\"message\":\"{count} {what}\",\"lost\":{count}}}\n"),
    };
    line.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    #[test]
    fn nobody_waits_for_a_log_that_is_not_read_and_what_was_lost_is_counted() {
        static READER: Mutex<Option<(Sender<()>, Receiver<()>)>> = Mutex::new(None);
        static WRITTEN: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
        static LOST_HERE: AtomicU64 = AtomicU64::new(0);
        fn write(lines: &[u8]) {
            // The first line is read when the test says so, as a full pipe is.
            if let Some((arrived, reads)) = READER.lock().unwrap().take() {
                arrived.send(()).unwrap();
                reads.recv().unwrap();
            }
            WRITTEN.lock().unwrap().push(lines.to_vec());
        }
        let (arrived, stuck) = channel();
        let (read, reads) = channel();
        *READER.lock().unwrap() = Some((arrived, reads));
        let queue = Queue::start(write, LossForm::Text, &LOST_HERE).unwrap();
        queue.write(b"the line that is not read\n".to_vec());
        stuck.recv().unwrap();
        for number in 0..2 * LINES_MAX {
            queue.write(format!("line {number}\n").into_bytes());
        }
        let begun = Instant::now();
        queue.flush(Duration::from_millis(50));
        assert!(begun.elapsed() < Duration::from_secs(5));
        read.send(()).unwrap();
        queue.flush(Duration::from_secs(30));
        let written = WRITTEN.lock().unwrap();
        let told = format!("{LINES_MAX} lines of this log were lost, because nobody read it\n");
        assert_eq!(String::from_utf8_lossy(&written[1]), told);
        assert_eq!(written.len(), 1 + 1 + LINES_MAX);
    }
}
