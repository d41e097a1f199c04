//! `status --watch`: the table again and again, until somebody has seen enough.

use std::io::IsTerminal;
use std::io::Write;
use std::time::Duration;

use super::Context;
use super::Outcome;
use super::report;
use crate::clock;
use crate::plan::stamp;

const EVERY: Duration = Duration::from_secs(2);

/// Ends with Ctrl-C, or with the reader of its output.
pub(super) fn status(context: &Context<'_>, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let is_terminal = std::io::stdout().is_terminal();
    loop {
        // Written in one piece, so that the screen does not flicker.
        let mut page = Vec::new();
        let outcome = report::status(context, false, &mut page);
        if is_terminal {
            write!(out, "\x1b[H\x1b[J")?;
        }
        out.write_all(&page)?;
        match outcome {
            Ok(_) => {
                writeln!(out, "{}, renewed every {} s; Ctrl-C ends it", stamp(clock::now()), EVERY.as_secs())?
            }
            Err(failed) => writeln!(out, "{failed:#}")?,
        }
        out.flush()?;
        std::thread::sleep(EVERY);
    }
}
