//! `status --watch`: prints the table again and again, until a signal.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use super::terminal::Screen;
use super::{Context, ExitStatus, runtime, status};
use crate::clock;
use crate::plan::stamp;
use crate::stop::TerminationSignals;

const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// Moves to the upper left and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Ends without an error at Ctrl-C, at SIGTERM, and when the reader of its output has gone.
pub(super) fn watch(context: &Context<'_>, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    runtime()?.block_on(async {
        let mut signals = TerminationSignals::listen()?;
        loop {
            match out.write_all(&page(context)?).and_then(|()| out.flush()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitStatus::Done),
                written => written?,
            }
            tokio::select! {
                () = signals.next() => return Ok(ExitStatus::Done),
                () = clock::sleep(REFRESH_INTERVAL) => {}
            }
        }
    })
}

/// Renders the page in one piece, so that the screen does not flicker.
fn page(context: &Context<'_>) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    if Screen::of_stdout().is_terminal {
        page.extend_from_slice(CLEAR.as_bytes());
    }
    match status::status(context, false, &mut page) {
        Ok(_) => {
            let (now, every) = (stamp(clock::now()), REFRESH_INTERVAL.as_secs());
            writeln!(page, "{now}, renewed every {every} s; Ctrl-C ends it")?;
        }
        // The warehouse may not exist yet, for example, and be there the next time.
        Err(failed) => writeln!(page, "{failed:#}")?,
    }
    Ok(page)
}
