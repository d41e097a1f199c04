//! What stands between the program and its server, and cuts the connection: before a message has arrived, or when it was
//! carried out and not answered yet.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// On whose behalf a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    BeforeItArrives,
    BeforeItIsAnswered,
}

/// Which messages are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// Every second COMMIT, by turns in either way.
    Commits,
    /// Any message, at distances that vary from this one to three times as much, so that in time each statement is met.
    Anywhere(usize),
}

/// Messages between two cuts at least, of which a page has fewer.
const OFTEN: usize = 150;
/// A purge of all tables by a process that has just begun has fewer.
const SELDOM: usize = 4_000;

struct Counts {
    cut: Where,
    messages: AtomicUsize,
    unsent: AtomicUsize,
    unanswered: AtomicUsize,
    /// Which message is cut off next, where it may be any.
    next: AtomicUsize,
}

pub(super) struct Proxy {
    port: u16,
    counts: Arc<Counts>,
}

impl Proxy {
    /// Cuts every second COMMIT, by turns in either way.
    pub(super) fn cutting_commits(server: u16) -> Self {
        Self::cutting(Where::Commits, server)
    }

    /// Cuts at whatever statement it happens to be, by turns in either way.
    pub(super) fn cutting_anywhere(server: u16) -> Self {
        Self::cutting(Where::Anywhere(OFTEN), server)
    }

    /// The same, for several processes at once.
    pub(super) fn cutting_seldom(server: u16) -> Self {
        Self::cutting(Where::Anywhere(SELDOM), server)
    }

    fn cutting(cut: Where, server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let count = AtomicUsize::default;
        let next = AtomicUsize::new(if let Where::Anywhere(distance) = cut { distance } else { 0 });
        let counts = Counts { cut, messages: count(), unsent: count(), unanswered: count(), next };
        let counts = Arc::new(counts);
        let counted = counts.clone();
        thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let counts = counted.clone();
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                thread::spawn(move || carry(client, server, &counts));
            }
        });
        Self { port, counts }
    }

    /// How a role reaches a database through it.
    pub(super) fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// How many were cut before they had arrived, and how many before they were answered.
    pub(super) fn cuts(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (count(&self.counts.unsent), count(&self.counts.unanswered))
    }
}

/// Carries messages both ways until one end closes, or a COMMIT is cut.
fn carry(mut client: TcpStream, mut server: TcpStream, counts: &Counts) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut answers, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let muted = Arc::new(AtomicUsize::new(0));
    let is_muted = muted.clone();
    let answering = thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            match answers.read(&mut bytes) {
                Ok(length) if length > 0 => {
                    // The first word behind a COMMIT means that it was carried out.
                    if is_muted.load(Ordering::SeqCst) > 0 || to_client.write_all(&bytes[..length]).is_err() {
                        break;
                    }
                }
                _ => break,
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = answers.shutdown(Shutdown::Both);
    });
    let mut is_begun = false;
    while let Some(message) = next_message(&mut client, is_begun) {
        is_begun = true;
        match cut(&message, counts) {
            None => {}
            Some(Cut::BeforeItArrives) => {
                counts.unsent.fetch_add(1, Ordering::Relaxed);
                break;
            }
            Some(Cut::BeforeItIsAnswered) => {
                counts.unanswered.fetch_add(1, Ordering::Relaxed);
                muted.store(1, Ordering::SeqCst);
            }
        }
        if server.write_all(&message).is_err() {
            break;
        }
    }
    // What was sent is carried out, though nobody hears of it.
    let end = if muted.load(Ordering::SeqCst) == 0 { Shutdown::Both } else { Shutdown::Write };
    let _ = server.shutdown(end);
    let _ = answering.join();
    let _ = client.shutdown(Shutdown::Both);
}

/// Reads one message of the client's. The first has no letter before its length.
fn next_message(client: &mut TcpStream, is_begun: bool) -> Option<Vec<u8>> {
    let mut message = vec![0; if is_begun { 5 } else { 4 }];
    client.read_exact(&mut message).ok()?;
    let length = u32::from_be_bytes(message[message.len() - 4..].try_into().unwrap()) as usize;
    let head = message.len();
    message.resize(head + length - 4, 0);
    client.read_exact(&mut message[head..]).ok()?;
    Some(message)
}

fn cut(message: &[u8], counts: &Counts) -> Option<Cut> {
    match counts.cut {
        Where::Commits if message[0] == b'Q' && message[5..].starts_with(b"COMMIT") => {
            match counts.messages.fetch_add(1, Ordering::Relaxed) % 4 {
                0 => Some(Cut::BeforeItArrives),
                2 => Some(Cut::BeforeItIsAnswered),
                _ => None,
            }
        }
        Where::Commits => None,
        Where::Anywhere(least) => {
            let number = counts.messages.fetch_add(1, Ordering::Relaxed);
            let distance = least + number * 31 % (2 * least);
            let cuts = counts.unsent.load(Ordering::Relaxed) + counts.unanswered.load(Ordering::Relaxed);
            let next = counts.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                (number == next).then_some(next + distance)
            });
            let is_even = cuts.is_multiple_of(2);
            next.ok().map(|_| if is_even { Cut::BeforeItArrives } else { Cut::BeforeItIsAnswered })
        }
    }
}
