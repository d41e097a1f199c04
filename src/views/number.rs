//! Decimal numbers with all their digits: read, compared, calculated with, and written.
//!
//! Promise: what fits into 38 digits is exact; beyond that a `f64` takes over. Nothing here
//! panics, and what has no result (a division by zero) is `None`.

use std::cmp::Ordering;

/// Digits behind the point that are still kept apart.
const SCALE_MAX: u32 = 30;
/// Digits of a quotient behind the point.
const QUOTIENT_SCALE: u32 = 12;

/// A number of an expression.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Exact { mantissa: i128, scale: u32 },
    Rough(f64),
}

impl Number {
    pub(super) fn whole(number: i64) -> Self {
        Self::Exact { mantissa: number.into(), scale: 0 }
    }

    /// Reads digits as JSON and FHIRPath write them.
    pub(super) fn read(digits: &str) -> Option<Self> {
        exact(digits)
            .or_else(|| digits.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::Rough))
    }

    fn exact(mantissa: i128, scale: u32) -> Self {
        Self::Exact { mantissa, scale }
    }

    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Rough(number) => number,
            // The reader of digits rounds once; a division of two rounded numbers twice.
            exact @ Self::Exact { .. } => exact.digits().parse().unwrap_or(f64::NAN),
        }
    }

    /// Returns it where it is a whole number that fits.
    pub(super) fn as_i64(self) -> Option<i64> {
        match self {
            Self::Exact { mantissa, scale } => {
                let unit = 10i128.checked_pow(scale)?;
                (mantissa % unit == 0).then(|| i64::try_from(mantissa / unit).ok()).flatten()
            }
            Self::Rough(number) => {
                #[expect(clippy::cast_possible_truncation, reason = "whole and far within the range")]
                let whole = (number.abs() < 9e15 && number.fract() == 0.0).then_some(number as i64);
                whole
            }
        }
    }

    /// Returns its digits; a rough number's are the fewest that tell it from its neighbours.
    pub(super) fn digits(self) -> String {
        let (mantissa, scale) = match self {
            Self::Rough(number) => return number.to_string(),
            Self::Exact { mantissa, scale } => (mantissa, scale as usize),
        };
        let sign = if mantissa < 0 { "-" } else { "" };
        let digits = mantissa.unsigned_abs().to_string();
        if scale == 0 {
            return format!("{sign}{digits}");
        }
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        format!("{sign}{whole}.{fraction}")
    }

    pub(super) fn compare(self, other: Self) -> Option<Ordering> {
        match aligned(self, other) {
            Some((a, b, _)) => Some(a.cmp(&b)),
            None => self.as_f64().partial_cmp(&other.as_f64()),
        }
    }

    pub(super) fn add(self, other: Self) -> Option<Self> {
        let exact =
            aligned(self, other).and_then(|(a, b, scale)| Some(Self::exact(a.checked_add(b)?, scale)));
        exact.or_else(|| rough(self.as_f64() + other.as_f64()))
    }

    pub(super) fn negative(self) -> Self {
        match self {
            Self::Exact { mantissa, scale } => mantissa
                .checked_neg()
                .map_or(Self::Rough(-self.as_f64()), |mantissa| Self::exact(mantissa, scale)),
            Self::Rough(number) => Self::Rough(-number),
        }
    }

    pub(super) fn multiply(self, other: Self) -> Option<Self> {
        let exact = match (self, other) {
            (Self::Exact { mantissa: a, scale: left }, Self::Exact { mantissa: b, scale: right })
                if left + right <= SCALE_MAX =>
            {
                a.checked_mul(b).map(|mantissa| Self::exact(mantissa, left + right))
            }
            _ => None,
        };
        exact.or_else(|| rough(self.as_f64() * other.as_f64()))
    }

    /// Divides, exactly where the quotient ends within [`QUOTIENT_SCALE`] digits.
    pub(super) fn divide(self, other: Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        let exact = aligned(self, other).and_then(|(a, b, _)| {
            let wide = a.checked_mul(10i128.pow(QUOTIENT_SCALE))?;
            (wide % b == 0).then(|| Self::exact(wide / b, QUOTIENT_SCALE).shortened())
        });
        exact.or_else(|| rough(self.as_f64() / other.as_f64()))
    }

    /// The whole part of the quotient.
    pub(super) fn whole_quotient(self, other: Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        match aligned(self, other) {
            Some((a, b, _)) => Some(Self::exact(a.checked_div(b)?, 0)),
            None => rough((self.as_f64() / other.as_f64()).trunc()),
        }
    }

    pub(super) fn remainder(self, other: Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        match aligned(self, other) {
            Some((a, b, scale)) => Some(Self::exact(a.checked_rem(b)?, scale)),
            None => rough(self.as_f64() % other.as_f64()),
        }
    }

    fn is_zero(self) -> bool {
        match self {
            Self::Exact { mantissa, .. } => mantissa == 0,
            Self::Rough(number) => number == 0.0,
        }
    }

    pub(super) fn absolute(self) -> Self {
        let is_negative = match self {
            Self::Exact { mantissa, .. } => mantissa < 0,
            Self::Rough(number) => number < 0.0,
        };
        if is_negative { self.negative() } else { self }
    }

    /// Rounds half away from zero to so many digits behind the point.
    pub(super) fn round(self, places: u32) -> Option<Self> {
        match self {
            Self::Exact { scale, .. } if scale <= places => Some(self),
            Self::Exact { mantissa, scale } => {
                let unit = 10i128.checked_pow(scale - places)?;
                let half = if mantissa < 0 { -(unit / 2) } else { unit / 2 };
                Some(Self::exact(mantissa.checked_add(half)? / unit, places))
            }
            Self::Rough(number) => {
                let unit = 10f64.powi(i32::try_from(places).ok()?);
                rough((number * unit).round() / unit)
            }
        }
    }

    /// The largest whole number that is not above it.
    pub(super) fn floor(self) -> Option<Self> {
        match self {
            Self::Exact { mantissa, scale } => {
                Some(Self::exact(mantissa.div_euclid(10i128.checked_pow(scale)?), 0))
            }
            Self::Rough(number) => rough(number.floor()),
        }
    }

    /// What it may have been before it was rounded to the digits it has, half a unit of the
    /// last one away: below it, or above.
    pub(super) fn boundary(self, is_high: bool) -> Option<Self> {
        let Self::Exact { mantissa, scale } = self else { return None };
        let half = if is_high { 5 } else { -5 };
        Some(Self::exact(mantissa.checked_mul(10)?.checked_add(half)?, scale + 1))
    }

    fn shortened(self) -> Self {
        let Self::Exact { mut mantissa, mut scale } = self else { return self };
        while 0 < scale && mantissa % 10 == 0 {
            (mantissa, scale) = (mantissa / 10, scale - 1);
        }
        Self::exact(mantissa, scale)
    }
}

fn rough(number: f64) -> Option<Number> {
    number.is_finite().then_some(Number::Rough(number))
}

fn exact(digits: &str) -> Option<Number> {
    let (digits, exponent) = match digits.find(['e', 'E']) {
        Some(at) => (&digits[..at], digits[at + 1..].parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut mantissa: i128 =
        if fraction.is_empty() { whole.parse().ok()? } else { format!("{whole}{fraction}").parse().ok()? };
    let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    if scale < 0 {
        mantissa = mantissa.checked_mul(10i128.checked_pow(scale.unsigned_abs())?)?;
    }
    let scale = u32::try_from(scale).unwrap_or(0);
    (scale <= SCALE_MAX).then_some(Number::Exact { mantissa, scale })
}

/// Both mantissas by the larger scale.
fn aligned(one: Number, other: Number) -> Option<(i128, i128, u32)> {
    let (Number::Exact { mantissa: a, scale: left }, Number::Exact { mantissa: b, scale: right }) =
        (one, other)
    else {
        return None;
    };
    let scale = left.max(right);
    let a = a.checked_mul(10i128.checked_pow(scale - left)?)?;
    let b = b.checked_mul(10i128.checked_pow(scale - right)?)?;
    Some((a, b, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(digits: &str) -> Number {
        Number::read(digits).unwrap()
    }

    #[test]
    fn digits_stay_as_they_are_written() {
        for digits in ["0", "-7", "1.50", "0.001", "-0.10", "123456789012345678901234567890"] {
            assert_eq!(read(digits).digits(), digits);
        }
        assert_eq!(read("15e-1").digits(), "1.5");
        assert_eq!(read("1.5E3").digits(), "1500");
        assert!(matches!(read("1e300"), Number::Rough(_)));
        assert!(Number::read("1e400").is_none());
        assert!(Number::read("x").is_none());
    }

    #[test]
    fn sums_and_products_are_exact() {
        let check = |result: Option<Number>, digits: &str| assert_eq!(result.unwrap().digits(), digits);
        check(read("0.1").add(read("0.2")), "0.3");
        check(read("1.50").multiply(read("2")), "3.00");
        check(read("7").divide(read("2")), "3.5");
        check(read("7.5").remainder(read("2")), "1.5");
        check(read("-7").whole_quotient(read("2")), "-3");
        check(read("1.25").round(1), "1.3");
        check(read("-1.25").round(1), "-1.3");
        check(read("-1.5").floor(), "-2");
        check(read("1.50").boundary(true), "1.505");
        check(read("0").boundary(false), "-0.5");
        assert!(read("1").divide(read("0.0")).is_none());
        assert_eq!(read("1.50").compare(read("1.5")), Some(Ordering::Equal));
        assert_eq!(read("9223372036854775807").add(read("1")).unwrap().as_i64(), None);
    }

    proptest::proptest! {
        #[test]
        fn a_real_is_the_one_nearest_to_the_digits(number: f64) {
            if number.is_finite() && number.abs() > 0.0 {
                proptest::prop_assert_eq!(read(&number.to_string()).as_f64().to_bits(), number.to_bits());
            }
        }

        #[test]
        fn any_two_numbers_can_be_calculated_with(a in "-?[0-9]{1,40}(\\.[0-9]{1,40})?(e-?[0-9]{1,3})?", b in "-?[0-9]{1,40}(\\.[0-9]{1,40})?") {
            if let (Some(a), Some(b)) = (Number::read(&a), Number::read(&b)) {
                let _ = (a.add(b), a.multiply(b), a.divide(b), a.remainder(b), a.whole_quotient(b), a.compare(b));
                let _ = (a.negative(), a.absolute(), a.round(3), a.floor(), a.boundary(true), a.as_i64(), a.digits());
            }
        }
    }
}
