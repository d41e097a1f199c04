//! `status --watch`: the table again and again, until somebody has seen enough.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use super::terminal::Screen;
use super::{Context, Outcome, runtime, status};
use crate::clock;
use crate::plan::stamp;
use crate::stop::TerminationSignals;

const EVERY: Duration = Duration::from_secs(2);
/// Back to the upper left, and nothing below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Ends well with Ctrl-C, with SIGTERM, or with the reader of its output.
pub(super) fn watch(context: &Context<'_>, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    runtime()?.block_on(async {
        let mut signals = TerminationSignals::listen()?;
        loop {
            match out.write_all(&page(context)?).and_then(|()| out.flush()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Outcome::Done),
                written => written?,
            }
            tokio::select! {
                () = signals.next() => return Ok(Outcome::Done),
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    })
}

/// In one piece, so that the screen does not flicker.
fn page(context: &Context<'_>) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    if Screen::of_stdout().is_terminal {
        page.extend_from_slice(CLEAR.as_bytes());
    }
    match status::status(context, false, &mut page) {
        Ok(_) => {
            let (now, every) = (stamp(clock::now()), EVERY.as_secs());
            writeln!(page, "{now}, renewed every {every} s; Ctrl-C ends it")?;
        }
        // A warehouse that is not there yet, say: it may be there at the next look.
        Err(failed) => writeln!(page, "{failed:#}")?,
    }
    Ok(page)
}
