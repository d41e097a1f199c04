//! Durations as they are written: `500ms`, `90s`, `15m`, `24h`, `7d`.

use std::time::Duration;

const LONGEST: Duration = Duration::from_hours(24 * 3660);

/// Parses `500ms`, `90s`, `15m`, `24h`, `7d`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a duration such as 500ms, 90s, 15m, 24h or 7d");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| refused())?;
    let unit = match &text[digits..] {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        "d" => Duration::from_hours(24),
        _ => return Err(refused()),
    };
    let seconds = unit.as_secs_f64() * number_as_f64(number);
    if seconds > LONGEST.as_secs_f64() {
        return Err(format!("{text:?} is longer than ten years"));
    }
    u32::try_from(number).map(|number| unit * number).map_err(|_| refused())
}

#[expect(clippy::cast_precision_loss, reason = "only compared with a limit")]
fn number_as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_hours(168)));
        for wrong in ["", "5", "s", "5 s", "-5s", "1.5h", "5w", "99999999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
