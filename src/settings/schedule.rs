//! When a cycle is due: at equal intervals or by cron, in a time zone, and not within quiet hours.
//!
//! Promise: the next moment is later than now, whatever the clocks are set to in spring and autumn. A
//! time of day that spring leaves out is due as soon as the clocks are set, one that autumn has twice is
//! due once; what is due every hour or oftener goes on being so. What falls into the quiet hours is due at
//! their end. Pure: the time is an argument.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, NaiveTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use super::duration::parse_duration;
use crate::plan::Timestamp;

/// When a cycle is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pattern: Pattern,
    zone: Tz,
    quiet: Option<QuietHours>,
    /// Whether several processes go by it: then equal intervals are counted from 1970 on, the same for all.
    is_shared: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Every(Duration),
    Cron(Box<Cron>),
}

/// A pattern, as it is written and as it was parsed.
#[derive(Clone, Debug)]
struct Cron {
    /// Six fields, seconds first.
    text: String,
    parsed: croner::Cron,
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

/// What a job scheduler can be told of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SimpleSchedule<'s> {
    Every(Duration),
    /// In UTC.
    Cron(&'s str),
    /// It has to ask for the next moment.
    Other,
}

/// No cycle can be wanted more often than this.
const EVERY_MIN: Duration = Duration::from_secs(1);

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Pattern::Every(every) => write!(f, "every {} s", every.as_secs())?,
            Pattern::Cron(cron) => write!(f, "{:?} in {}", cron.text, self.zone)?,
        }
        match self.quiet {
            None => Ok(()),
            Some(quiet) => write!(f, ", not between {quiet} in {}", self.zone),
        }
    }
}

impl Schedule {
    /// Parses it as of UTC and without quiet hours.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let of = |pattern| Self { pattern, zone: Tz::UTC, quiet: None, is_shared: false };
        if let Some(every) = text.strip_prefix("every ") {
            let every = parse_duration(every.trim())?;
            // The scheduler knows no fraction of a second.
            return if every < EVERY_MIN || every.subsec_nanos() > 0 {
                Err("must be whole seconds, at least every 1s".to_owned())
            } else {
                Ok(of(Pattern::Every(every)))
            };
        }
        let fields = text.split_whitespace().count();
        let cron = if fields == 5 { format!("0 {text}") } else { text.to_owned() };
        let parsed = parse_cron(&cron).ok_or_else(|| {
            format!("{text:?} is neither \"every 15m\" nor cron with seconds, such as \"0 */15 * * * *\"")
        })?;
        // An impossible date, such as 31 February, is accepted by the parser and never comes.
        match parsed.find_next_occurrence(&DateTime::UNIX_EPOCH, false) {
            Ok(_) => Ok(of(Pattern::Cron(Box::new(Cron { text: cron, parsed })))),
            Err(_) => Err(format!("{text:?} is a date that never comes")),
        }
    }

    /// Lets its times be those of a zone.
    pub(crate) fn in_zone(self, zone: Tz) -> Self {
        Self { zone, ..self }
    }

    pub(crate) fn not_between(self, quiet: Option<QuietHours>) -> Self {
        Self { quiet, ..self }
    }

    /// Lets several processes go by it together.
    pub(crate) fn shared(self) -> Self {
        Self { is_shared: true, ..self }
    }

    /// Returns the last moment until `now` at which a cycle was due, where several processes go by it: of each, one
    /// of them runs a cycle.
    pub(crate) fn shared_tick(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.pattern {
            _ if !self.is_shared => None,
            Pattern::Every(every) => multiple_until(*every, now),
            Pattern::Cron(cron) => {
                let now = now.as_cron_takes_it().with_timezone(&self.zone);
                let last = cron.parsed.find_previous_occurrence(&now, true).ok()?;
                Some(last.to_utc().into())
            }
        }
    }

    pub(crate) fn as_simple(&self) -> SimpleSchedule<'_> {
        match &self.pattern {
            _ if self.quiet.is_some() || self.is_shared => SimpleSchedule::Other,
            Pattern::Every(every) => SimpleSchedule::Every(*every),
            Pattern::Cron(cron) if self.zone == Tz::UTC => SimpleSchedule::Cron(&cron.text),
            Pattern::Cron(_) => SimpleSchedule::Other,
        }
    }

    /// Returns the first moment after `now` at which a cycle is due.
    pub(crate) fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let next = match &self.pattern {
            Pattern::Every(every) => {
                let from = if self.is_shared { multiple_until(*every, now)? } else { now };
                from + crate::time::TimeDelta::from_std(*every).ok()?
            }
            Pattern::Cron(cron) => next_by_cron(cron, self.zone, *now.as_cron_takes_it())?.into(),
        };
        Some(self.quiet_until(next).unwrap_or(next))
    }

    /// Returns until when no cycle may begin, if `now` is within the quiet hours.
    pub(crate) fn quiet_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.quiet?.end_after(*now.as_cron_takes_it(), self.zone).map(Timestamp::from)
    }

    /// Returns the time from one cycle to the next.
    pub(crate) fn period(&self, now: Timestamp) -> Duration {
        let span = || {
            let first = self.next_after(now)?;
            (self.next_after(first)? - first).to_std().ok()
        };
        span().unwrap_or(Duration::from_mins(15))
    }
}

/// Returns the last moment until `now` that is a multiple of a span since 1970.
fn multiple_until(every: Duration, now: Timestamp) -> Option<Timestamp> {
    let every = i64::try_from(every.as_secs()).ok()?;
    Timestamp::from_timestamp(now.timestamp().div_euclid(every) * every, 0)
}

/// A moment, as the calendar's crate has it.
type Moment = DateTime<Utc>;

fn parse_cron(text: &str) -> Option<croner::Cron> {
    if text.starts_with('@') {
        return croner::Cron::from_str(text).ok();
    }
    croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Required).build().parse(text).ok()
}

fn next_by_cron(cron: &Cron, zone: Tz, now: Moment) -> Option<Moment> {
    let Cron { text, parsed } = cron;
    if zone == Tz::UTC {
        return parsed.find_next_occurrence(&now, false).ok();
    }
    if recurs_within_the_hours(text) {
        next_of_many(parsed, zone, now)
    } else {
        next_of_few(parsed, zone, now)
    }
}

/// Returns whether it is due every hour, or several times an hour: then the time that has passed counts,
/// not what the clock shows.
fn recurs_within_the_hours(cron: &str) -> bool {
    cron == "@hourly" || cron.split_whitespace().take(3).any(|field| field.contains('*'))
}

/// The parser takes what the clocks show for what they show the first time, and leaves out what spring
/// does.
fn next_of_few(cron: &croner::Cron, zone: Tz, now: Moment) -> Option<Moment> {
    const STEPS: i32 = 8;
    let starts = (0..STEPS).map(|step| now + TimeDelta::minutes(30) * step);
    let next = |start: Moment| cron.find_next_occurrence(&start.with_timezone(&zone), false).ok();
    let next = starts.filter_map(|start| next(start).map(|next| next.to_utc())).find(|next| now < *next)?;
    let before = offset_at(zone, now);
    if offset_at(zone, next) == before {
        return Some(next);
    }
    let set_at = first_with_another_offset(zone, now, next);
    let left_out = offset_at(zone, set_at).local_minus_utc() - before.local_minus_utc();
    let until = set_at + TimeDelta::seconds(i64::from(left_out));
    let in_gap = cron.find_next_occurrence(&set_at.with_timezone(&before), true).ok();
    Some(if in_gap.is_some_and(|time| time < until) { set_at } else { next })
}

/// Goes by the offset that holds now, and, if the clocks are set before that comes, by the next one.
fn next_of_many(cron: &croner::Cron, zone: Tz, now: Moment) -> Option<Moment> {
    let offset = offset_at(zone, now);
    let by = |offset: FixedOffset, from: Moment, inclusive| {
        cron.find_next_occurrence(&from.with_timezone(&offset), inclusive).ok().map(|next| next.to_utc())
    };
    let next = by(offset, now, false)?;
    if offset_at(zone, next) == offset {
        return Some(next);
    }
    let set_at = first_with_another_offset(zone, now, next);
    by(offset_at(zone, set_at), set_at, true)
}

fn offset_at(zone: Tz, time: Moment) -> FixedOffset {
    zone.offset_from_utc_datetime(&time.naive_utc()).fix()
}

/// Returns the first second after `from`, at most `to`, at which another offset holds than at `from`.
fn first_with_another_offset(zone: Tz, from: Moment, to: Moment) -> Moment {
    let before = offset_at(zone, from);
    let (mut same, mut other) = (from.timestamp(), to.timestamp());
    while other - same > 1 {
        let middle = same + (other - same) / 2;
        let time = Moment::from_timestamp(middle, 0).unwrap_or(to);
        if offset_at(zone, time) == before { same = middle } else { other = middle }
    }
    Moment::from_timestamp(other, 0).unwrap_or(to)
}

/// From one time of day to another, across midnight if the second is the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuietHours {
    begins: NaiveTime,
    ends: NaiveTime,
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.begins.format("%H:%M"), self.ends.format("%H:%M"))
    }
}

/// No zone leaves out more at once, but for days at the date line.
const GAP_MINUTES_MAX: i64 = 24 * 60;

impl QuietHours {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let time = |text: &str| NaiveTime::parse_from_str(text.trim(), "%H:%M").ok();
        let times = text.split_once('-').and_then(|(begins, ends)| Some((time(begins)?, time(ends)?)));
        match times {
            None => Err(format!("{text:?} is not two times of day such as \"08:00-18:00\"")),
            Some((begins, ends)) if begins == ends => {
                Err(format!("{text:?} would leave no time for a cycle"))
            }
            Some((begins, ends)) => Ok(Self { begins, ends }),
        }
    }

    fn contains(self, time: NaiveTime) -> bool {
        if self.begins < self.ends {
            self.begins <= time && time < self.ends
        } else {
            self.begins <= time || time < self.ends
        }
    }

    /// Returns their end, if `now` is within them.
    fn end_after(self, now: Moment, zone: Tz) -> Option<Moment> {
        let local = now.with_timezone(&zone);
        if !self.contains(local.time().with_nanosecond(0)?) {
            return None;
        }
        let today = local.date_naive();
        let days = [Some(today), today.succ_opt(), today.succ_opt().and_then(|day| day.succ_opt())];
        let ends = days.into_iter().flatten().filter_map(|day| {
            let end = day.and_time(self.ends);
            // An end that spring leaves out is when the clocks are set.
            (0..=GAP_MINUTES_MAX).find_map(|minutes| {
                let time = end.checked_add_signed(TimeDelta::minutes(minutes))?;
                zone.from_local_datetime(&time).latest().map(|end| end.to_utc())
            })
        });
        ends.into_iter().find(|end| now < *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{parse_stamp, stamp};
    use crate::time::TimeDelta;

    fn berlin(text: &str) -> Schedule {
        Schedule::parse(text).unwrap().in_zone(Tz::Europe__Berlin)
    }

    fn at(text: &str) -> Timestamp {
        parse_stamp(text).unwrap()
    }

    /// The next moments, one after the other.
    #[track_caller]
    fn check(schedule: &Schedule, from: &str, expected: &[&str]) {
        let mut now = at(from);
        let mut found = Vec::new();
        for _ in expected {
            now = schedule.next_after(now).unwrap();
            found.push(stamp(now));
        }
        assert_eq!(found, expected, "{schedule} from {from}");
    }

    #[test]
    fn a_schedule_is_every_or_cron() {
        let now = at("2026-11-24T10:07:30Z");
        let next = |text: &str| stamp(Schedule::parse(text).unwrap().next_after(now).unwrap());
        assert_eq!(next("every 15m"), "2026-11-24T10:22:30Z");
        assert_eq!(next("0 */15 * * * *"), "2026-11-24T10:15:00Z");
        assert_eq!(next("*/15 * * * *"), "2026-11-24T10:15:00Z");
        assert_eq!(Schedule::parse("0 */15 * * * *").unwrap().period(now), Duration::from_mins(15));
        for wrong in [
            "",
            "every",
            "every 0s",
            "every 1500ms",
            "every fortnight",
            "0 0 0 31 2 *",
            "* * *",
            "60 * * * * *",
        ] {
            assert!(Schedule::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_of_day_is_that_of_its_zone_in_winter_and_in_summer() {
        let eight = berlin("0 0 8 * * *");
        check(&eight, "2027-01-15T12:00:00Z", &["2027-01-16T07:00:00Z"]);
        check(&eight, "2027-07-15T12:00:00Z", &["2027-07-16T06:00:00Z"]);
        // The clocks are set in the night before the second of them.
        check(&eight, "2027-03-27T00:00:00Z", &["2027-03-27T07:00:00Z", "2027-03-28T06:00:00Z"]);
        check(&eight, "2027-10-30T00:00:00Z", &["2027-10-30T06:00:00Z", "2027-10-31T07:00:00Z"]);
    }

    #[test]
    fn what_spring_leaves_out_is_due_once_and_what_autumn_has_twice_as_well() {
        let early = berlin("0 30 2 * * *");
        let spring = ["2027-03-27T01:30:00Z", "2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"];
        check(&early, "2027-03-27T00:00:00Z", &spring);
        let autumn = ["2027-10-30T00:30:00Z", "2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"];
        check(&early, "2027-10-30T00:00:00Z", &autumn);
        let twice_a_day = berlin("0 30 2,14 * * *");
        let spring = ["2027-03-27T13:30:00Z", "2027-03-28T01:00:00Z", "2027-03-28T12:30:00Z"];
        check(&twice_a_day, "2027-03-27T02:00:00Z", &spring);
        let autumn = ["2027-10-31T00:30:00Z", "2027-10-31T13:30:00Z"];
        check(&twice_a_day, "2027-10-31T00:00:00Z", &autumn);
        // Within the hour that comes twice, the second time.
        check(&early, "2027-10-31T01:10:00Z", &["2027-11-01T01:30:00Z"]);
    }

    #[test]
    fn what_is_due_every_quarter_of_an_hour_goes_on_being_so() {
        for (from, hours) in [("2027-03-28T00:00:00Z", 4), ("2027-10-30T23:00:00Z", 5)] {
            let mut now = at(from);
            for _ in 0..hours * 4 {
                let next = berlin("0 */15 * * * *").next_after(now).unwrap();
                assert_eq!(next - now, TimeDelta::minutes(15), "after {}", stamp(now));
                now = next;
            }
        }
        // Half an hour is what Lord Howe sets its clocks by.
        let hourly = Schedule::parse("0 0 * * * *").unwrap().in_zone(Tz::Australia__Lord_Howe);
        let autumn = ["2027-04-03T14:00:00Z", "2027-04-03T15:30:00Z", "2027-04-03T16:30:00Z"];
        check(&hourly, "2027-04-03T13:30:00Z", &autumn);
    }

    #[test]
    fn what_falls_into_the_quiet_hours_is_due_at_their_end() {
        let quiet =
            |text: &str, hours: &str| berlin(text).not_between(Some(QuietHours::parse(hours).unwrap()));
        let by_day = quiet("0 */15 * * * *", "08:00-18:00");
        let winter = ["2027-01-15T06:45:00Z", "2027-01-15T17:00:00Z", "2027-01-15T17:15:00Z"];
        check(&by_day, "2027-01-15T06:40:00Z", &winter);
        check(&quiet("every 15m", "08:00-18:00"), "2027-01-15T06:50:00Z", &["2027-01-15T17:00:00Z"]);
        check(&quiet("0 0 12 * * *", "08:00-18:00"), "2027-07-15T00:00:00Z", &["2027-07-15T16:00:00Z"]);
        let by_night = quiet("every 1h", "22:30-06:00");
        check(&by_night, "2027-01-15T20:45:00Z", &["2027-01-16T05:00:00Z", "2027-01-16T06:00:00Z"]);
        assert_eq!(by_night.quiet_until(at("2027-01-16T02:00:00Z")), Some(at("2027-01-16T05:00:00Z")));
        assert_eq!(by_night.quiet_until(at("2027-01-16T05:00:00Z")), None);
        // An end that spring leaves out.
        let spring = quiet("every 1h", "00:00-02:30").quiet_until(at("2027-03-28T00:10:00Z"));
        assert_eq!(spring.map(stamp).as_deref(), Some("2027-03-28T01:00:00Z"));
        for wrong in ["", "8-18", "08:00", "08:00-25:00", "08:00-08:00"] {
            assert!(QuietHours::parse(wrong).is_err(), "{wrong}");
        }
    }
}
