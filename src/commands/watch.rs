//! `status --watch`: shows the status again and again on a screen of its own, until a signal.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use super::status_found::Found;
use super::status_text::{self, StatusText};
use super::terminal::Screen;
use super::{Context, ExitStatus, runtime};
use crate::cli::StatusArgs;
use crate::clock;
use crate::plan::stamp;
use crate::stop::TerminationSignals;

const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// A screen of its own, without a cursor, …
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
/// … which leaves the one before as it was.
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";
/// Moves to the upper left; the rest of each line, and what is below the last, is cleared as it is drawn.
const HOME: &str = "\x1b[H";
const CLEAR_REST_OF_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Ends without an error at Ctrl-C, at SIGTERM, and when the reader of its output has gone.
pub(super) fn watch(
    context: &Context<'_>,
    args: &StatusArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let is_terminal = Screen::of_stdout().is_terminal;
    if is_terminal {
        out.write_all(ENTER)?;
    }
    let ended = draw_until_stopped(context, args, out);
    if is_terminal {
        out.write_all(LEAVE)?;
        out.flush()?;
    }
    ended
}

fn draw_until_stopped(
    context: &Context<'_>,
    args: &StatusArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    runtime()?.block_on(async {
        let mut signals = TerminationSignals::listen()?;
        loop {
            let screen = Screen::of_stdout();
            let lines = lines(context, args, &screen);
            match out.write_all(&page(&lines, &screen)).and_then(|()| out.flush()) {
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

/// Returns what is shown: of many patients on a terminal, those that need a person most.
fn lines(context: &Context<'_>, args: &StatusArgs, screen: &Screen) -> Vec<String> {
    let now = clock::now();
    let read = context.settings().map_err(anyhow::Error::from).and_then(|settings| {
        let found = Found::read(&settings, args, now)?;
        Ok(status_text::render(screen, &settings, &found, now))
    });
    // The warehouse may not exist yet, for example, and be there the next time.
    let (table, mut totals) = match read {
        Ok(StatusText { table, totals }) => (table, totals),
        Err(failed) => (Vec::new(), screen.wrap(0, &format!("{failed:#}"))),
    };
    totals.push(format!("{}, renewed every {} s; Ctrl-C ends it", stamp(now), REFRESH_INTERVAL.as_secs()));
    let Some(height) = screen.height else { return [table, totals].concat() };
    let room = height.saturating_sub(totals.len());
    if table.len() <= room {
        return [table, totals].concat();
    }
    let shown = room.saturating_sub(1);
    let more = format!("… {} lines more: `healthex-sync status`, or --state", table.len() - shown);
    [table[..shown].to_vec(), vec![more], totals].concat()
}

/// Puts the lines together in one piece, so that the screen does not flicker.
fn page(lines: &[String], screen: &Screen) -> Vec<u8> {
    if !screen.is_terminal {
        return lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>().into_bytes();
    }
    let lines: Vec<String> = lines.iter().map(|line| format!("{line}{CLEAR_REST_OF_LINE}")).collect();
    format!("{HOME}{}{CLEAR_BELOW}", lines.join("\r\n")).into_bytes()
}
