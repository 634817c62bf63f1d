//! Points and spans of time.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

use super::{Table, fail, no_overload};
use crate::error::EvalError;
use crate::eval::Context;
use crate::number::overflow;
use crate::value::{Evaluated, Value};

pub(crate) const TABLE: Table = &[
    ("duration", to_duration),
    ("timestamp", to_timestamp),
    ("getFullYear", full_year),
    ("getMonth", month),
    ("getDayOfYear", day_of_year),
    ("getDayOfMonth", day_of_month),
    ("getDate", date),
    ("getDayOfWeek", day_of_week),
    ("getHours", hours),
    ("getMinutes", minutes),
    ("getSeconds", seconds),
    ("getMilliseconds", milliseconds),
];

/// 0001-01-01T00:00:00Z.
const FIRST_SECOND: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;

fn within(seconds: i64) -> Result<(), EvalError> {
    if (FIRST_SECOND..=LAST_SECOND).contains(&seconds) {
        return Ok(());
    }
    fail("timestamp overflow")
}

/// A point in time moved by nanoseconds.
pub(crate) fn shifted(at: Timestamp, nanos: i64) -> Result<Timestamp, EvalError> {
    let moved = at.checked_add(SignedDuration::from_nanos(nanos));
    let moved = moved.map_err(|_| EvalError::failed("timestamp overflow"))?;
    within(moved.as_second())?;
    Ok(moved)
}

/// A point in time by RFC 3339.
pub(crate) fn parse_timestamp(text: &str) -> Result<Timestamp, EvalError> {
    let wrong = || EvalError::failed(format!("parsing time {text:?}: invalid RFC 3339 timestamp"));
    // Other forms that a library takes are none of RFC 3339.
    let form = text.len() >= 20
        && text.len() <= 64
        && text
            .as_bytes()
            .get(10)
            .is_some_and(|byte| matches!(byte, b'T' | b't'))
        && !text.contains(['[', ' ']);
    if !form {
        return Err(wrong());
    }
    let parsed: Timestamp = text.parse().map_err(|_| wrong())?;
    within(parsed.as_second())?;
    Ok(parsed)
}

/// A date, or a point in time.
pub(crate) fn parse_date(text: &str) -> Result<Timestamp, EvalError> {
    if text.len() == 10 {
        return parse_timestamp(&format!("{text}T00:00:00Z"));
    }
    parse_timestamp(text)
}

/// A span of time in nanoseconds, from numbers with units as `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Result<i64, EvalError> {
    let wrong = || EvalError::failed(format!("time: invalid duration {text:?}"));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, after) = rest.split_at(end);
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        rest = after;
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 20 {
            return Err(wrong());
        }
        let mut nanos = whole.parse::<i128>().unwrap_or(0) * unit;
        let mut place = unit;
        for digit in fraction.bytes().take(15) {
            place /= 10;
            nanos += i128::from(digit - b'0') * place;
        }
        total += nanos;
        if total > i128::from(i64::MAX) + 1 {
            return Err(wrong());
        }
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| wrong())
}

/// A span of time as seconds.
pub(crate) fn duration_text(nanos: i64) -> String {
    let (seconds, rest) = (
        nanos.unsigned_abs() / 1_000_000_000,
        nanos.unsigned_abs() % 1_000_000_000,
    );
    let sign = if nanos < 0 { "-" } else { "" };
    let fraction = format!("{rest:09}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{seconds}{point}{fraction}s")
}

/// A point in time by RFC 3339, with as many digits as it needs.
pub(crate) fn timestamp_text(at: Timestamp) -> String {
    at.to_string()
}

fn to_duration<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Duration(nanos)] | [Value::Int(nanos)] => Ok(Value::Duration(*nanos)),
        [Value::String(text)] => Ok(Value::Duration(parse_duration(text)?)),
        _ => no_overload(),
    }
}

fn to_timestamp<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Timestamp(at)] => Ok(Value::Timestamp(*at)),
        [Value::Int(seconds)] => {
            within(*seconds)?;
            let at = Timestamp::from_second(*seconds);
            Ok(Value::Timestamp(
                at.map_err(|_| EvalError::failed("timestamp overflow"))?,
            ))
        }
        [Value::String(text)] => Ok(Value::Timestamp(parse_timestamp(text)?)),
        _ => no_overload(),
    }
}

fn zone(name: &str) -> Result<TimeZone, EvalError> {
    let unknown = || EvalError::failed(format!("unknown time zone {name}"));
    if name.is_empty() || name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let Some((hours, minutes)) = name.split_once(':') else {
        return TimeZone::get(name).map_err(|_| unknown());
    };
    let hours_of: i32 = hours.parse().map_err(|_| unknown())?;
    let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
    let minutes = if hours.starts_with('-') {
        -minutes
    } else {
        minutes
    };
    if hours_of.abs() > 24 || minutes.abs() > 59 {
        return Err(unknown());
    }
    let offset = Offset::from_seconds(hours_of * 3600 + minutes * 60).map_err(|_| unknown())?;
    Ok(TimeZone::fixed(offset))
}

/// A part of a point in time, in UTC or a zone.
fn part<'a>(args: &[Value<'a>], part: fn(&Zoned) -> i64) -> Evaluated<'a> {
    let (at, zone) = match args {
        [Value::Timestamp(at)] => (at, TimeZone::UTC),
        [Value::Timestamp(at), Value::String(name)] => (at, zone(name)?),
        _ => return no_overload(),
    };
    Ok(Value::Int(part(&at.to_zoned(zone))))
}

fn full_year<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    part(args, |at| i64::from(at.year()))
}

fn month<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    part(args, |at| i64::from(at.month()) - 1)
}

fn day_of_year<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    part(args, |at| i64::from(at.day_of_year()) - 1)
}

fn day_of_month<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    part(args, |at| i64::from(at.day()) - 1)
}

fn date<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    part(args, |at| i64::from(at.day()))
}

fn day_of_week<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    part(args, |at| i64::from(at.weekday().to_sunday_zero_offset()))
}

/// A part of a point in time, or all of a span in a unit.
fn unit<'a>(args: &[Value<'a>], nanos_per: i64, of: fn(&Zoned) -> i64) -> Evaluated<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(
            nanos.checked_div(nanos_per).ok_or_else(overflow)?,
        )),
        args => part(args, of),
    }
}

fn hours<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    unit(args, 3_600_000_000_000, |at| i64::from(at.hour()))
}

fn minutes<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    unit(args, 60_000_000_000, |at| i64::from(at.minute()))
}

fn seconds<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    unit(args, 1_000_000_000, |at| i64::from(at.second()))
}

fn milliseconds<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    unit(args, 1_000_000, |at| i64::from(at.millisecond()))
}
