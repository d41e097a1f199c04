//! When did this pull begin, and from when does the next one ask?

use std::time::Duration;

use super::Timestamp;
use crate::time::TimeDelta;

/// Returns the start of a pull: the earlier of our clock and the server's, in whole seconds, so
/// that neither being wrong makes a gap.
///
/// `first_sent` is our time when the first request was sent, `server_date` the server's when it
/// answered, `answered_after` how long that took.
pub(crate) fn pull_start(
    first_sent: Timestamp,
    server_date: Option<Timestamp>,
    answered_after: Duration,
) -> Timestamp {
    let answered_after = TimeDelta::from_std(answered_after).unwrap_or_default();
    let by_server = server_date.map(|date| date - answered_after);
    let start = by_server.map_or(first_sent, |by_server| by_server.min(first_sent));
    Timestamp::from_timestamp(start.timestamp(), 0).unwrap_or(start)
}

/// Returns the watermark of a complete pull: its start less `sync.overlap`.
pub(crate) fn watermark_after(started_at: Timestamp, overlap: Duration) -> Timestamp {
    started_at - TimeDelta::from_std(overlap).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_timestamp_millis(1_800_000_000_000 + millis).unwrap()
    }

    #[test]
    fn the_earlier_clock_counts_rounded_down() {
        let check = |first_sent, server_date, answered_after, start| {
            let answered_after = Duration::from_millis(answered_after);
            assert_eq!(pull_start(at(first_sent), server_date, answered_after), at(start));
        };
        check(10_900, None, 500, 10_000);
        // Both clocks agree: the answer took its time.
        check(10_000, Some(at(12_000)), 2_000, 10_000);
        // Ours is ahead.
        check(60_000, Some(at(12_000)), 2_000, 10_000);
        // Ours is behind.
        check(5_000, Some(at(12_000)), 2_000, 5_000);
        check(10_000, Some(at(11_000)), 1_001, 9_000);
    }

    #[test]
    fn the_next_pull_reaches_back_before_this_one() {
        assert_eq!(watermark_after(at(7_200_000), Duration::from_hours(1)), at(3_600_000));
        assert_eq!(watermark_after(at(0), Duration::ZERO), at(0));
    }
}
