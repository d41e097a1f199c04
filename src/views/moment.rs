//! Dates, dateTimes and times as FHIR writes them: compared, their boundaries, one UTC spelling.
//!
//! Promise: partial dates compare as far as they go; where the answer depends on what is not
//! written, or on a time zone that only one of them has, it is `None`, as it is for anything
//! that is no date. Absent on purpose: leap seconds.

use std::cmp::Ordering;

use crate::time::{Day, Timestamp};

/// Which end of what a partial value may mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Low,
    High,
}

/// Length of `YYYY-MM-DD`; behind it a time begins.
const DAY_LENGTH: usize = 10;
const DAY_MILLISECONDS: i64 = 86_400_000;

/// Compares dates and dateTimes.
pub(super) fn compare_dates(a: &str, b: &str) -> Option<Ordering> {
    if DAY_LENGTH < a.len() && DAY_LENGTH < b.len() {
        return if has_zone(a) == has_zone(b) { Some(instant(a)?.cmp(&instant(b)?)) } else { None };
    }
    compare_parts(a, b, DAY_LENGTH)
}

/// Compares times of a day.
pub(super) fn compare_times(a: &str, b: &str) -> Option<Ordering> {
    const SECONDS_LENGTH: usize = 8;
    if SECONDS_LENGTH <= a.len() && SECONDS_LENGTH <= b.len() {
        return Some(clock(a)?.0.cmp(&clock(b)?.0));
    }
    compare_parts(a, b, usize::MAX)
}

/// What both have written decides, or that neither has written more.
fn compare_parts(a: &str, b: &str, length_max: usize) -> Option<Ordering> {
    let shared = a.len().min(b.len()).min(length_max);
    match a.as_bytes()[..shared].cmp(&b.as_bytes()[..shared]) {
        Ordering::Equal if a.len() == b.len() => Some(a.cmp(b)),
        Ordering::Equal => None,
        decided => Some(decided),
    }
}

fn has_zone(text: &str) -> bool {
    let sign = text.len().checked_sub(6).map(|at| text.as_bytes()[at]);
    text.ends_with('Z') || matches!(sign, Some(b'+' | b'-'))
}

/// Milliseconds since 1970 of a dateTime with a time; without a zone it is taken for UTC.
fn instant(text: &str) -> Option<i64> {
    let (day, time) = (text.get(..DAY_LENGTH)?, text.get(DAY_LENGTH + 1..)?);
    if !matches!(text.as_bytes()[DAY_LENGTH], b'T' | b' ') {
        return None;
    }
    let (milliseconds, zone) = clock(time)?;
    let days = i64::from(calendar_day(day)?.since_1970());
    Some(days * DAY_MILLISECONDS + milliseconds - offset(zone)? * 60_000)
}

/// `YYYY-MM-DD` of a day that there is.
fn calendar_day(text: &str) -> Option<Day> {
    let bytes: &[u8; DAY_LENGTH] = text.as_bytes().try_into().ok()?;
    if bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    Day::of(number(&bytes[..4])?.cast_signed(), number(&bytes[5..7])?, number(&bytes[8..])?)
}

fn number(digits: &[u8]) -> Option<u32> {
    digits
        .iter()
        .try_fold(0u32, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

/// Milliseconds of `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fff`, and what is written behind them.
fn clock(text: &str) -> Option<(i64, &str)> {
    let two = |at: usize| number(text.as_bytes().get(at..at + 2)?).map(i64::from);
    let (hour, minute) = (two(0)?, two(3)?);
    if text.as_bytes()[2] != b':' || 24 < hour || 59 < minute {
        return None;
    }
    let minutes = (hour * 60 + minute) * 60_000;
    if text.as_bytes().get(5) != Some(&b':') {
        return Some((minutes, text.get(5..)?));
    }
    let seconds = two(6)?;
    if 59 < seconds {
        return None;
    }
    let rest = text.get(8..)?;
    let digits = rest.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    if digits == 0 {
        return Some((minutes + seconds * 1_000, rest));
    }
    let fraction: f64 = rest[..=digits].parse().ok()?;
    // Rounded to a millisecond, but never up to the next second.
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and 1,000")]
    let thousandths = (fraction.min(0.999) * 1_000.0 + 0.5) as i64;
    Some((minutes + seconds * 1_000 + thousandths, &rest[digits + 1..]))
}

/// Minutes east of UTC: `Z`, `+02:00`, or nothing.
fn offset(zone: &str) -> Option<i64> {
    let zone = zone.trim_matches(' ');
    if zone.is_empty() || zone == "Z" {
        return Some(0);
    }
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = &zone.as_bytes()[1..];
    if digits.len() != 5 || digits[2] != b':' {
        return None;
    }
    let (hours, minutes) = (i64::from(number(&digits[..2])?), i64::from(number(&digits[3..])?));
    (hours <= 14 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

/// Returns whether the text is a full date.
pub(super) fn is_full_date(text: &str) -> bool {
    calendar_day(text).is_some()
}

/// Returns the date of a full date or of a dateTime, as written there, also with a blank before the time.
pub(super) fn date_of(text: &str) -> Option<&str> {
    let day = text.get(..DAY_LENGTH).filter(|day| is_full_date(day))?;
    let has_time = matches!(text.as_bytes()[DAY_LENGTH..], [b'T' | b' ', a, b, b':', ..] if a.is_ascii_digit() && b.is_ascii_digit());
    (text.len() == DAY_LENGTH || has_time).then_some(day)
}

/// Writes a dateTime with seconds and an offset as `YYYY-MM-DD HH:MM:SS` in UTC, the one spelling that
/// SQLite, DuckDB, pandas and R all read; anything less is `None`.
pub(super) fn utc(text: &str) -> Option<String> {
    // What is in UTC already is only spelt otherwise.
    if let Some((day, time)) = text.strip_suffix('Z').and_then(|text| text.split_once('T'))
        && time.len() == "00:00:00".len()
    {
        return utc_instant(text).map(|_| [day, " ", time].concat());
    }
    let at = Timestamp::from_timestamp_millis(utc_instant(text)?)?;
    (at.year() <= 9999).then(|| at.with_a_blank())
}

/// Returns the milliseconds from one date or dateTime to another, where both are of one precision.
pub(super) fn milliseconds_between(from: &str, to: &str) -> Option<i64> {
    let is_day = |text: &str| text.len() == DAY_LENGTH;
    let day = |text: &str| calendar_day(text).map(|day| i64::from(day.since_1970()) * DAY_MILLISECONDS);
    if is_day(from) && is_day(to) {
        return Some(day(to)? - day(from)?);
    }
    (has_zone(from) == has_zone(to)).then(|| Some(instant(to)? - instant(from)?)).flatten()
}

fn utc_instant(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let offset = bytes.len().checked_sub(6).map(|at| &bytes[at..])?;
    let is_zoned = bytes.ends_with(b"Z")
        || matches!(offset, [b'+' | b'-', b'0' | b'1', b'0'..=b'9', b':', b'0'..=b'5', b'0'..=b'9']);
    let has_seconds = bytes.get(10) == Some(&b'T') && bytes.get(16) == Some(&b':');
    // An hour 24 is no hour. The offset may carry the first day of the first year before it,
    // where no reader follows.
    let is_in_range = bytes.get(11..13)? < b"24".as_slice() && text >= "0001-01-02";
    if is_zoned && has_seconds && is_in_range { instant(text) } else { None }
}

/// A year or month to its first or last day.
pub(super) fn date_boundary(text: &str, side: Side) -> Option<String> {
    match (text.len(), side) {
        (4, Side::Low) => Some(format!("{text}-01-01")),
        (4, Side::High) => Some(format!("{text}-12-31")),
        (7, Side::Low) => Some(format!("{text}-01")),
        (7, Side::High) => {
            let first = calendar_day(&format!("{text}-01"))?;
            Some(format!("{text}-{:02}", first.days_in_its_month()))
        }
        (10, _) => Some(text.to_owned()),
        _ => None,
    }
}

/// A dateTime to its first or last millisecond, anywhere on earth where it has no offset.
pub(super) fn date_time_boundary(text: &str, side: Side) -> Option<String> {
    let (time, anywhere) = match side {
        Side::Low => ("00:00:00.000", "+14:00"),
        Side::High => ("23:59:59.999", "-12:00"),
    };
    if text.len() <= DAY_LENGTH {
        return Some(format!("{}T{time}{anywhere}", date_boundary(text, side)?));
    }
    let (day, written) = (text.get(..=DAY_LENGTH)?, text.get(DAY_LENGTH + 1..)?);
    let zone_length = match written.as_bytes() {
        [.., b'Z'] => 1,
        [.., b'+' | b'-', _, _, b':', _, _] => 6,
        _ => 0,
    };
    let (clock, zone) = written.split_at_checked(written.len() - zone_length)?;
    let zone = if zone.is_empty() { anywhere } else { zone };
    Some(format!("{day}{}{zone}", time_boundary(clock, side)))
}

/// A time to its first or last millisecond.
pub(super) fn time_boundary(text: &str, side: Side) -> String {
    let rest = match side {
        Side::Low => "00:00:00.000",
        Side::High => "00:59:59.999",
    };
    let whole = format!("{text}{}", rest.get(text.len()..).unwrap_or_default());
    whole.chars().take(rest.len()).collect()
}

/// Returns the date that a date or a dateTime begins with, whole or partial.
pub(super) fn to_date(text: &str) -> Option<&str> {
    let date = text.split_once('T').map_or(text, |(date, _)| date);
    let is_date = match date.len() {
        4 => number(date.as_bytes()).is_some(),
        7 => calendar_day(&format!("{date}-01")).is_some(),
        _ => is_full_date(date),
    };
    (is_date && (date.len() == text.len() || to_date_time(text).is_some())).then_some(date)
}

/// Returns the text if it is a date or a dateTime.
pub(super) fn to_date_time(text: &str) -> Option<&str> {
    match text.split_once('T') {
        None => to_date(text),
        Some((date, time)) => {
            let hours = time.len() == 2 && number(time.as_bytes()).is_some_and(|hour| hour < 24);
            let is_time = hours || clock(time).and_then(|(_, zone)| offset(zone)).is_some();
            (is_full_date(date) && is_time).then_some(text)
        }
    }
}

/// Returns the text if it is a time of a day.
pub(super) fn to_time(text: &str) -> Option<&str> {
    let text = text.strip_prefix('T').unwrap_or(text);
    let hours = text.len() == 2 && number(text.as_bytes()).is_some_and(|hour| hour < 24);
    (hours || clock(text).is_some_and(|(_, rest)| rest.is_empty())).then_some(text)
}
