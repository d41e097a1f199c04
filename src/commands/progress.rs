//! Progress bars on stderr, where it is a terminal: one for the cycle, and one for each pull under
//! way. Log lines appear above them.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::terminal::shorten;
use crate::clock;
use crate::cycle::progress::Progress;
use crate::pull::Pace;
use crate::telemetry;

const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
const NAME_WIDTH: usize = 24;

/// Shows the progress of a cycle until the sender is dropped. The returned task ends when the bars
/// are removed.
pub(super) fn show(mut progress: watch::Receiver<Progress>) -> JoinHandle<()> {
    tokio::spawn(async move {
        if !telemetry::bars_are_shown() {
            return;
        }
        let mut bars = CycleBars::new();
        let mut tick = clock::interval(REDRAW_INTERVAL);
        loop {
            tokio::select! {
                _ = tick.tick() => bars.draw(&progress.borrow().clone()),
                changed = progress.changed() => if changed.is_err() { break },
            }
        }
        bars.clear();
    })
}

struct CycleBars {
    total: ProgressBar,
    /// One for each pull under way.
    pulls: Vec<(Arc<Pace>, ProgressBar)>,
}

impl CycleBars {
    fn new() -> Self {
        let total = telemetry::bars().add(ProgressBar::new(0));
        total.set_style(style("{bar:30} {pos}/{len} patients  {msg}  {elapsed}"));
        Self { total, pulls: Vec::new() }
    }

    fn draw(&mut self, progress: &Progress) {
        self.pulls.retain(|(pace, bar)| {
            let is_running = progress.pulls.iter().any(|pull| Arc::ptr_eq(&pull.pace, pace));
            if !is_running {
                bar.finish_and_clear();
            }
            is_running
        });
        for pull in &progress.pulls {
            if !self.pulls.iter().any(|(pace, _)| Arc::ptr_eq(pace, &pull.pace)) {
                let bar = telemetry::bars().insert_before(&self.total, ProgressBar::no_length());
                bar.set_prefix(shorten(&pull.name, NAME_WIDTH));
                self.pulls.push((pull.pace.clone(), bar));
            }
        }
        for (pace, bar) in &self.pulls {
            draw_pull(pace, bar);
        }
        self.total.set_length(progress.total);
        self.total.set_message(format!("{} resources", progress.resources));
        self.total.set_position(progress.done);
        self.total.tick();
    }

    fn clear(self) {
        for (_, bar) in self.pulls {
            bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

/// Draws the bar of a pull. Before the first page, and with a server that sends no `total`, it has
/// no length.
fn draw_pull(pace: &Pace, bar: &ProgressBar) {
    if let Some(total) = pace.total() {
        bar.set_style(style("  {prefix:24} {bar:20} {pos}/{len}"));
        bar.set_length(total);
    } else {
        bar.set_style(style("  {prefix:24} {spinner} {pos}"));
    }
    bar.set_position(pace.received());
    bar.tick();
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Makes a bar over a number of steps, hidden where stderr is no terminal.
pub(super) fn steps(count: usize, what: &str) -> ProgressBar {
    if !telemetry::bars_are_shown() {
        return ProgressBar::hidden();
    }
    let bar = telemetry::bars().add(ProgressBar::new(count as u64));
    bar.set_style(style(&format!("{{bar:30}} {{pos}}/{{len}} {what}  {{msg}}  {{elapsed}}")));
    bar.enable_steady_tick(REDRAW_INTERVAL);
    bar
}
