//! Resource quantities: exact decimal numbers with a suffix, and their canonical form.
//!
//! Invariant: arithmetic is exact to 10^-9 and saturates; parsing rounds what is finer away from zero.

use std::cmp::Ordering;
use std::fmt;

/// How a quantity was written, and is written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `1500m`, `2k`.
    DecimalSI,
    /// `64Mi`.
    BinarySI,
    /// `1e3`.
    DecimalExponent,
}

/// An exact quantity. Two are equal when their amounts are, however they are written.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    /// The amount in units of 10^-9.
    nano: i128,
    format: Format,
}

/// Why a string is no quantity; the words are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form `<sign><number><suffix>`.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// A suffix that is not known.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// The numeric part is no number, or one beyond what can be held.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

const NANO: i128 = 1_000_000_000;
const DECIMAL: &[(&str, i32)] = &[
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: &[(&str, u32)] = &[
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];

impl Quantity {
    /// No amount.
    pub const ZERO: Self = Self {
        nano: 0,
        format: Format::DecimalSI,
    };

    /// Parses upstream's syntax.
    ///
    /// # Errors
    /// When the text is no quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(QuantityError::Format),
        };
        let number_end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.is_empty() || fraction.contains('.') || !suffix_is_well_formed(suffix) {
            return Err(QuantityError::Format);
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Numeric);
        }
        let (multiplier, exponent, mut format) = interpret(suffix).ok_or(QuantityError::Suffix)?;
        let nano = scaled(whole, fraction, multiplier, exponent).ok_or(QuantityError::Numeric)?;
        let nano = if format == Format::BinarySI {
            if nano > 0 && nano < NANO {
                format = Format::DecimalSI;
            }
            nano.min(i128::from(i64::MAX) * NANO)
        } else {
            nano
        };
        Ok(Self {
            nano: if negative { -nano } else { nano },
            format,
        })
    }

    /// A whole amount.
    #[must_use]
    pub fn new(value: i64, format: Format) -> Self {
        Self {
            nano: i128::from(value) * NANO,
            format,
        }
    }

    /// An amount of thousandths (CPU).
    #[must_use]
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nano: i128::from(milli) * (NANO / 1000),
            format: Format::DecimalSI,
        }
    }

    /// An amount of bytes, written with binary suffixes.
    #[must_use]
    pub fn from_bytes(bytes: i64) -> Self {
        Self::new(bytes, Format::BinarySI)
    }

    /// How it is written.
    #[must_use]
    pub fn format(self) -> Format {
        self.format
    }

    /// Thousandths, rounded away from zero; saturates.
    #[must_use]
    pub fn as_milli(self) -> i64 {
        saturate(round_away(self.nano, NANO / 1000))
    }

    /// Whole units (bytes), rounded away from zero; saturates.
    #[must_use]
    pub fn as_bytes(self) -> i64 {
        saturate(round_away(self.nano, NANO))
    }

    /// The nearest double.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    /// Whether it is a whole number.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.nano % NANO == 0
    }

    /// Whether it is zero.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// Rounded away from zero to thousandths, as upstream does with every resource list.
    #[must_use]
    pub fn round_to_milli(self) -> Self {
        let milli = NANO / 1000;
        Self {
            nano: round_away(self.nano, milli).saturating_mul(milli),
            ..self
        }
    }

    /// The sum; its format is the first term's, unless that is zero.
    #[must_use]
    #[allow(
        clippy::should_implement_trait,
        reason = "it saturates, which an operator would hide"
    )]
    pub fn add(self, other: Self) -> Self {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        Self {
            nano: self.nano.saturating_add(other.nano),
            format,
        }
    }

    /// The difference; its format is the first term's, unless that is zero.
    #[must_use]
    #[allow(
        clippy::should_implement_trait,
        reason = "it saturates, which an operator would hide"
    )]
    pub fn sub(self, other: Self) -> Self {
        self.add(Self {
            nano: -other.nano,
            format: other.format,
        })
    }

    /// The canonical form of a quantity's text, or `None` when it is none.
    #[must_use]
    pub fn canonical(text: &str) -> Option<String> {
        Self::parse(text).ok().map(|q| q.to_string())
    }
}

fn suffix_is_well_formed(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    digits.bytes().all(|b| b.is_ascii_digit())
}

/// Multiplier, power of ten and format of a suffix.
fn interpret(suffix: &str) -> Option<(i128, i32, Format)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Some((1, *exponent, Format::DecimalSI));
    }
    if let Some((_, shift)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Some((1 << shift, 0, Format::BinarySI));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some((1, exponent.parse::<i32>().ok()?, Format::DecimalExponent))
}

/// `whole.fraction * multiplier * 10^exponent` in units of 10^-9, rounded up.
fn scaled(whole: &str, fraction: &str, multiplier: i128, exponent: i32) -> Option<i128> {
    let mut shift = exponent.checked_add(9)?;
    let mut value: i128 = 0;
    let mut inexact = false;
    for digit in whole.bytes() {
        value = value
            .checked_mul(10)?
            .checked_add(i128::from(digit - b'0'))?;
    }
    for digit in fraction.bytes() {
        // More digits than an i128 can ever hold are below what is kept.
        if let Some(longer) = value
            .checked_mul(10)
            .filter(|v| v.checked_mul(multiplier).is_some())
        {
            value = longer + i128::from(digit - b'0');
            shift = shift.checked_sub(1)?;
        } else {
            inexact |= digit != b'0';
        }
    }
    value = value.checked_mul(multiplier)?;
    if value == 0 {
        return Some(i128::from(inexact));
    }
    while shift > 0 {
        value = value.checked_mul(10)?;
        shift -= 1;
    }
    while shift < 0 {
        inexact |= value % 10 != 0;
        value /= 10;
        if value == 0 {
            return Some(1);
        }
        shift += 1;
    }
    value.checked_add(i128::from(inexact))
}

fn round_away(value: i128, unit: i128) -> i128 {
    let quotient = value / unit;
    if value % unit == 0 {
        quotient
    } else {
        quotient + value.signum()
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let small = self.nano.abs() < 1024 * NANO;
        if self.format == Format::BinarySI && !small && self.is_whole() {
            let mut value = self.nano / NANO;
            let mut power = 0;
            while value % 1024 == 0 && power < BINARY.len() {
                value /= 1024;
                power += 1;
            }
            let suffix = power.checked_sub(1).map_or("", |i| BINARY[i].0);
            return write!(f, "{value}{suffix}");
        }
        let mut value = self.nano;
        let mut exponent = -9;
        let highest = if self.format == Format::DecimalExponent {
            36
        } else {
            18
        };
        while value % 1000 == 0 && exponent < highest {
            value /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 {
                write!(f, "{value}")
            } else {
                write!(f, "{value}e{exponent}")
            };
        }
        let suffix = DECIMAL
            .iter()
            .find(|(_, e)| *e == exponent)
            .map_or("", |(s, _)| s);
        write!(f, "{value}{suffix}")
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_forms() {
        for (text, wanted) in [
            ("0", "0"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000Mi", "1000Mi"),
            ("1500Mi", "1500Mi"),
            ("64Ki", "64Ki"),
            ("512Ki", "512Ki"),
            ("100Ki", "100Ki"),
            ("1Ki", "1Ki"),
            ("0.001Ki", "1024m"),
            ("1e3", "1e3"),
            ("12e2", "1200"),
            ("0.1n", "1n"),
            ("-100m", "-100m"),
            ("+5k", "5k"),
            ("2000000", "2M"),
            ("123456789", "123456789"),
            ("1E", "1E"),
            ("100E", "100E"),
            (".5", "500m"),
            ("5.", "5"),
            ("0.0000000001", "1n"),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), wanted, "{text}");
        }
    }

    #[test]
    fn not_quantities() {
        use QuantityError as E;
        for (text, wanted) in [
            ("", E::Format),
            ("-", E::Format),
            ("abc", E::Format),
            ("1.2.3", E::Format),
            ("1 Gi", E::Format),
            (".", E::Numeric),
            ("1mi", E::Suffix),
            ("1e", E::Suffix),
            ("1Kik", E::Suffix),
            ("1e99999999999", E::Suffix),
            ("1e999", E::Numeric),
        ] {
            assert_eq!(Quantity::parse(text).unwrap_err(), wanted, "{text}");
        }
    }

    #[test]
    fn arithmetic() {
        let parse = |s| Quantity::parse(s).unwrap();
        assert_eq!(parse("100m").add(parse("1")).to_string(), "1100m");
        assert_eq!(parse("1Gi").sub(parse("512Mi")).to_string(), "512Mi");
        assert_eq!(parse("0").add(parse("1Gi")).to_string(), "1Gi");
        assert_eq!(parse("1").cmp(&parse("1000m")), Ordering::Equal);
        assert_eq!(parse("1.1m").as_milli(), 2);
        assert_eq!(parse("1Ki").as_bytes(), 1024);
        assert_eq!(parse("0.1m").round_to_milli().to_string(), "1m");
    }

    proptest! {
        #[test]
        fn never_panics_and_canonical_is_stable(text in "[+-]?[0-9.]{0,40}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,3}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                let canonical = quantity.to_string();
                prop_assert_eq!(Quantity::parse(&canonical).unwrap(), quantity, "{} -> {}", text, canonical);
                prop_assert_eq!(Quantity::parse(&canonical).unwrap().to_string(), canonical);
            }
        }
    }
}
