//! A bar on stderr while a cycle runs, where stderr is a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use tokio::sync::watch;

use crate::cycle::Progress;

/// Shows how far a cycle has come until the sender is dropped.
pub(super) fn show(mut progress: watch::Receiver<Progress>) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    tokio::spawn(async move {
        let bar = ProgressBar::new(0);
        let template = "{bar:30} {pos}/{len} patients  {msg}  {elapsed}";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        while progress.changed().await.is_ok() {
            let Progress { total, done, resources } = progress.borrow_and_update().clone();
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(format!("{resources} resources"));
        }
        bar.finish_and_clear();
    });
}

/// A bar over a number of steps; hidden where stderr is no terminal.
pub(super) fn steps(count: usize, what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(count as u64);
    let template = format!("{{bar:30}} {{pos}}/{{len}} {what}  {{msg}}  {{elapsed}}");
    bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
