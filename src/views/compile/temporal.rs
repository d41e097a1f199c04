//! Dates, dateTimes and times: comparing them, their boundaries, and one UTC spelling.
//!
//! Promise: partial dates compare as far as they go; where the answer depends on what is not
//! written, or on a time zone only one of them has, it is NULL. Nothing here raises an error.

/// Which end of what a partial value may mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Low,
    High,
}

/// `a`, `b` compared by `operator`, both SQL of text as FHIR writes dates and dateTimes.
pub(super) fn compare_dates(operator: &str, a: &str, b: &str) -> String {
    let zoned = |name: &str| format!("({name} GLOB '*Z' OR substr({name}, -6, 1) IN ('+', '-'))");
    // Behind the tenth letter a time begins; strftime applies the offset.
    let instant = |name: &str| format!("strftime('%Y-%m-%dT%H:%M:%f', {name})");
    format!(
        "(SELECT CASE WHEN length(a) > 10 AND length(b) > 10 THEN \
         CASE WHEN {za} = {zb} THEN {ia} {operator} {ib} END \
         WHEN substr(a, 1, shared) <> substr(b, 1, shared) THEN substr(a, 1, shared) {operator} substr(b, 1, shared) \
         WHEN length(a) = length(b) THEN a {operator} b END \
         FROM (SELECT a, b, min(length(a), length(b), 10) AS shared FROM (SELECT {a} AS a, {b} AS b)))",
        za = zoned("a"),
        zb = zoned("b"),
        ia = instant("a"),
        ib = instant("b"),
    )
}

/// The same for times of a day.
pub(super) fn compare_times(operator: &str, a: &str, b: &str) -> String {
    let exact = |name: &str| format!("strftime('%H:%M:%f', {name})");
    format!(
        "(SELECT CASE WHEN length(a) >= 8 AND length(b) >= 8 THEN {ea} {operator} {eb} \
         WHEN substr(a, 1, shared) <> substr(b, 1, shared) THEN substr(a, 1, shared) {operator} substr(b, 1, shared) \
         WHEN length(a) = length(b) THEN a {operator} b END \
         FROM (SELECT a, b, min(length(a), length(b)) AS shared FROM (SELECT {a} AS a, {b} AS b)))",
        ea = exact("a"),
        eb = exact("b"),
    )
}

/// A full date, or NULL.
pub(super) fn full_date(value: &str) -> String {
    format!("(SELECT CASE WHEN date(v) = v THEN v END FROM (SELECT {value} AS v))")
}

/// The date of a full date or of a dateTime, as written there, or NULL.
pub(super) fn date_of_date_time(value: &str) -> String {
    format!(
        "(SELECT CASE WHEN date(day) = day AND (v = day OR v GLOB '??????????T[0-9][0-9]:*') THEN day END \
         FROM (SELECT v, substr(v, 1, 10) AS day FROM (SELECT {value} AS v)))"
    )
}

/// A dateTime with seconds and an offset, as `YYYY-MM-DDTHH:MM:SSZ`; anything less is NULL.
pub(super) fn utc(value: &str) -> String {
    // The offset may carry the first day of the first year before it, where no reader follows.
    format!(
        "(SELECT CASE WHEN v GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]*' \
         AND (substr(v, -1) = 'Z' OR substr(v, -6) GLOB '[-+][01][0-9]:[0-5][0-9]') AND substr(v, 12, 2) < '24' \
         AND (substr(v, 9, 2) < '29' OR date(substr(v, 1, 10)) = substr(v, 1, 10)) AND v >= '0001-01-02' \
         THEN strftime('%Y-%m-%dT%H:%M:%SZ', v) END FROM (SELECT {value} AS v))"
    )
}

/// `value` less or more half a unit of its last digit; `digits` are its digits as written.
pub(super) fn decimal_boundary(value: &str, digits: &str, side: Side) -> String {
    let sign = if side == Side::Low { '-' } else { '+' };
    format!(
        "(SELECT CASE WHEN d NOT GLOB '*[eE]*' THEN round(v {sign} CAST('5e-' || (places + 1) AS REAL), places + 1) END \
         FROM (SELECT v, d, CASE instr(d, '.') WHEN 0 THEN 0 ELSE length(d) - instr(d, '.') END AS places \
         FROM (SELECT {value} AS v, {digits} AS d)))"
    )
}

/// A year or month to its first or last day.
pub(super) fn date_boundary(value: &str, side: Side) -> String {
    let day = match side {
        Side::Low => "CASE length(v) WHEN 4 THEN v || '-01-01' WHEN 7 THEN v || '-01' WHEN 10 THEN v END",
        Side::High => {
            "CASE length(v) WHEN 4 THEN v || '-12-31' WHEN 7 THEN date(v || '-01', '+1 month', '-1 day') \
             WHEN 10 THEN v END"
        }
    };
    format!("(SELECT {day} FROM (SELECT {value} AS v))")
}

/// A dateTime to its first or last millisecond, anywhere on earth where it has no offset.
pub(super) fn date_time_boundary(value: &str, side: Side) -> String {
    let (time, zone) = match side {
        Side::Low => ("00:00:00.000", "+14:00"),
        Side::High => ("23:59:59.999", "-12:00"),
    };
    let day = date_boundary("v", side);
    let clock = time_boundary("clock", side);
    format!(
        "(SELECT CASE WHEN length(v) <= 10 THEN {day} || 'T{time}{zone}' \
         ELSE substr(v, 1, 11) || {clock} || CASE WHEN offset = '' THEN '{zone}' ELSE offset END END \
         FROM (SELECT v, offset, substr(v, 12, length(v) - 11 - length(offset)) AS clock \
         FROM (SELECT v, CASE WHEN v GLOB '*T*Z' THEN 'Z' WHEN v GLOB '*T*[-+]??:??' THEN substr(v, -6) ELSE '' END \
         AS offset FROM (SELECT {value} AS v))))"
    )
}

pub(super) fn time_boundary(value: &str, side: Side) -> String {
    let rest = match side {
        Side::Low => "00:00:00.000",
        Side::High => "00:59:59.999",
    };
    format!("(SELECT substr(t || substr('{rest}', length(t) + 1), 1, 12) FROM (SELECT {value} AS t))")
}
