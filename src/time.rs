//! Moments, spans and days as types of our own. The crate that calculates with them is named here
//! alone, so that another can take its place.
//!
//! Promise: arithmetic beyond what can be told ends at the earliest or latest moment, and never
//! panics. Absent on purpose: the clock, and time zones but UTC.

use std::fmt;
use std::ops::{Add, AddAssign, Mul, Neg, Sub};
use std::time::Duration;
use std::time::SystemTime;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, SecondsFormat, SubsecRound, Utc};

/// A moment, in UTC.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    pub const UNIX_EPOCH: Self = Self(DateTime::UNIX_EPOCH);
    pub const MIN_UTC: Self = Self(DateTime::<Utc>::MIN_UTC);
    pub const MAX_UTC: Self = Self(DateTime::<Utc>::MAX_UTC);

    /// Makes a moment of the seconds since 1970, and nanoseconds after them.
    pub const fn from_timestamp(seconds: i64, nanoseconds: u32) -> Option<Self> {
        match DateTime::from_timestamp(seconds, nanoseconds) {
            Some(time) => Some(Self(time)),
            None => None,
        }
    }

    pub fn from_timestamp_millis(milliseconds: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(milliseconds).map(Self)
    }

    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text).ok().map(|time| Self(time.to_utc()))
    }

    /// Reads a time without a zone, `2026-01-31T08:00:00`, as one in UTC.
    pub fn parse_without_zone(text: &str) -> Option<Self> {
        text.parse::<NaiveDateTime>().ok().map(|time| Self(time.and_utc()))
    }

    /// Reads a time in UTC as SQLite writes it, `2026-01-31 08:00:00`.
    pub fn parse_with_a_blank(text: &str) -> Option<Self> {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok().map(|time| Self(time.and_utc()))
    }

    /// Returns the whole seconds since 1970.
    pub fn timestamp(self) -> i64 {
        self.0.timestamp()
    }

    pub fn timestamp_millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    pub fn timestamp_micros(self) -> i64 {
        self.0.timestamp_micros()
    }

    pub fn year(self) -> i32 {
        self.0.year()
    }

    pub fn checked_add_signed(self, span: TimeDelta) -> Option<Self> {
        self.0.checked_add_signed(span.0).map(Self)
    }

    pub fn checked_sub_signed(self, span: TimeDelta) -> Option<Self> {
        self.0.checked_sub_signed(span.0).map(Self)
    }

    /// Returns the same moment without anything finer than microseconds.
    #[must_use]
    pub fn in_microseconds(self) -> Self {
        Self(self.0.trunc_subsecs(6))
    }

    /// Writes RFC 3339 in whole seconds, `2026-01-31T08:00:00Z`.
    pub fn rfc3339_seconds(self) -> String {
        self.0.to_rfc3339_opts(SecondsFormat::Secs, true)
    }

    /// Writes RFC 3339 with milliseconds, `2026-01-31T08:00:00.000Z`.
    pub fn rfc3339_millis(self) -> String {
        self.0.to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    /// Writes it as SQLite does, `2026-01-31 08:00:00`.
    pub fn with_a_blank(self) -> String {
        self.0.format("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// Writes it as part of a file's name, `20260131T080000Z`.
    pub fn in_file_name(self) -> String {
        self.0.format("%Y%m%dT%H%M%SZ").to_string()
    }

    /// Writes it as a header of HTTP, `Sat, 31 Jan 2026 08:00:00 GMT`.
    pub fn http_date(self) -> String {
        self.0.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    /// Returns it as the cron parser takes it.
    pub(crate) fn as_cron_takes_it(&self) -> &DateTime<Utc> {
        &self.0
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(time.into())
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        time.0.into()
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339_seconds())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Sub for Timestamp {
    type Output = TimeDelta;

    fn sub(self, earlier: Self) -> TimeDelta {
        TimeDelta(self.0 - earlier.0)
    }
}

impl Add<TimeDelta> for Timestamp {
    type Output = Self;

    fn add(self, span: TimeDelta) -> Self {
        let beyond = if span < TimeDelta::zero() { Self::MIN_UTC } else { Self::MAX_UTC };
        self.checked_add_signed(span).unwrap_or(beyond)
    }
}

impl AddAssign<TimeDelta> for Timestamp {
    fn add_assign(&mut self, span: TimeDelta) {
        *self = *self + span;
    }
}

impl Sub<TimeDelta> for Timestamp {
    type Output = Self;

    fn sub(self, span: TimeDelta) -> Self {
        let beyond = if span < TimeDelta::zero() { Self::MAX_UTC } else { Self::MIN_UTC };
        self.checked_sub_signed(span).unwrap_or(beyond)
    }
}

/// A span of time, which may go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeDelta(chrono::TimeDelta);

impl fmt::Display for TimeDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.num_seconds())
    }
}

/// A span that is longer than can be told, or goes back where it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a span of time that cannot be used")]
pub struct OutOfRange;

impl TimeDelta {
    pub const MAX: Self = Self(chrono::TimeDelta::MAX);

    pub const fn zero() -> Self {
        Self(chrono::TimeDelta::zero())
    }

    pub const fn milliseconds(milliseconds: i64) -> Self {
        Self(chrono::TimeDelta::milliseconds(milliseconds))
    }

    pub const fn seconds(seconds: i64) -> Self {
        Self(chrono::TimeDelta::seconds(seconds))
    }

    pub const fn minutes(minutes: i64) -> Self {
        Self(chrono::TimeDelta::minutes(minutes))
    }

    pub const fn hours(hours: i64) -> Self {
        Self(chrono::TimeDelta::hours(hours))
    }

    pub const fn days(days: i64) -> Self {
        Self(chrono::TimeDelta::days(days))
    }

    pub fn try_seconds(seconds: i64) -> Option<Self> {
        chrono::TimeDelta::try_seconds(seconds).map(Self)
    }

    pub fn from_std(span: Duration) -> Result<Self, OutOfRange> {
        chrono::TimeDelta::from_std(span).map(Self).map_err(|_| OutOfRange)
    }

    /// Returns the span, if it does not go back.
    pub fn to_std(self) -> Result<Duration, OutOfRange> {
        self.0.to_std().map_err(|_| OutOfRange)
    }

    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    pub fn num_seconds(self) -> i64 {
        self.0.num_seconds()
    }

    pub fn num_minutes(self) -> i64 {
        self.0.num_minutes()
    }

    pub fn num_hours(self) -> i64 {
        self.0.num_hours()
    }

    pub fn num_days(self) -> i64 {
        self.0.num_days()
    }

    #[must_use]
    pub fn abs(self) -> Self {
        Self(self.0.abs())
    }
}

impl Add for TimeDelta {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.checked_add(&other.0).unwrap_or(chrono::TimeDelta::MAX))
    }
}

impl AddAssign for TimeDelta {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for TimeDelta {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.checked_sub(&other.0).unwrap_or(chrono::TimeDelta::MIN))
    }
}

impl Mul<i32> for TimeDelta {
    type Output = Self;

    fn mul(self, times: i32) -> Self {
        Self(self.0.checked_mul(times).unwrap_or(chrono::TimeDelta::MAX))
    }
}

impl Neg for TimeDelta {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(NaiveDate);

impl Day {
    /// Days from the first of year 1 to 1970, by the crate's count.
    const EPOCH: i32 = 719_163;

    /// The earliest that can be told.
    pub const FIRST: Self = Self(NaiveDate::MIN);

    /// Returns the day if there is one of that name.
    pub const fn of(year: i32, month: u32, day: u32) -> Option<Self> {
        match NaiveDate::from_ymd_opt(year, month, day) {
            Some(date) => Some(Self(date)),
            None => None,
        }
    }

    /// Reads `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Self> {
        NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(Self)
    }

    /// Returns how many days it is after 1970-01-01.
    pub fn since_1970(self) -> i32 {
        self.0.num_days_from_ce() - Self::EPOCH
    }

    /// Returns the day so many days after 1970-01-01.
    pub fn after_1970(days: i32) -> Option<Self> {
        NaiveDate::from_num_days_from_ce_opt(days.checked_add(Self::EPOCH)?).map(Self)
    }

    pub fn year(self) -> i32 {
        self.0.year()
    }

    pub fn month(self) -> u32 {
        self.0.month()
    }

    pub fn days_in_its_month(self) -> u8 {
        self.0.num_days_in_month()
    }

    /// Returns the day so many days before.
    #[must_use]
    pub fn before(self, days: u64) -> Self {
        let before = self.0.checked_sub_days(chrono::Days::new(days));
        before.map_or(Self::FIRST, Self)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_what_can_be_told_is_the_end_of_time() {
        let now = Timestamp::parse("2026-11-26T08:00:00.5+02:00").unwrap();
        assert_eq!(now.rfc3339_seconds(), "2026-11-26T06:00:00Z");
        assert_eq!(now + TimeDelta::MAX, Timestamp::MAX_UTC);
        assert_eq!(now - TimeDelta::MAX, Timestamp::MIN_UTC);
        assert_eq!(now - (-TimeDelta::MAX), Timestamp::MAX_UTC);
        assert_eq!(TimeDelta::MAX + TimeDelta::days(1), TimeDelta::MAX);
        assert_eq!(now - (now - TimeDelta::hours(1)), TimeDelta::hours(1));
        assert_eq!(TimeDelta::seconds(-1).to_std(), Err(OutOfRange));
        assert_eq!(TimeDelta::from_std(Duration::MAX), Err(OutOfRange));
    }

    #[test]
    fn each_spelling_is_what_its_reader_takes() {
        let moment = Timestamp::from_timestamp(784_111_777, 123_456_789).unwrap();
        assert_eq!(moment.http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(moment.in_file_name(), "19941106T084937Z");
        assert_eq!(moment.rfc3339_millis(), "1994-11-06T08:49:37.123Z");
        assert_eq!(moment.in_microseconds(), Timestamp::from_timestamp(784_111_777, 123_456_000).unwrap());
    }

    #[test]
    fn a_day_is_counted_from_1970() {
        assert_eq!(Day::of(1970, 1, 1).unwrap().since_1970(), 0);
        assert_eq!(Day::parse("2024-02-29").unwrap().since_1970(), 19_782);
        assert_eq!(Day::parse("2023-02-29"), None);
        assert_eq!(Day::of(2024, 3, 1).unwrap().before(1).to_string(), "2024-02-29");
    }
}
