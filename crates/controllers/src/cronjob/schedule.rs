//! Cron schedules: `minute hour day month weekday`, the `@` words, and when they are due next.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Unit, ZonedRound};
use std::time::Duration;

/// No schedule is searched further than this for its next time.
const YEARS: i16 = 5;

/// Why a schedule cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScheduleError {
    #[error("expected exactly 5 fields, found {found}: {text:?}")]
    Fields { found: usize, text: String },
    #[error("cannot read {part:?} as a {field}")]
    Part { field: &'static str, part: String },
    #[error("unrecognized descriptor: {text}")]
    Word { text: String },
    #[error("unknown time zone {name:?}")]
    Zone { name: String },
}

/// When something is due.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    zone: TimeZone,
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    /// Bits of the allowed values.
    Fields {
        minutes: u64,
        hours: u64,
        days: u64,
        months: u64,
        weekdays: u64,
        either_day: bool,
    },
    Every(Duration),
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Reads a schedule; times are in `zone`, else in UTC.
    pub(super) fn parse(text: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let zone = match zone.filter(|z| !z.is_empty()) {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::Zone {
                name: name.to_owned(),
            })?,
        };
        let text = text.trim();
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        if let Some(span) = fields.strip_prefix("@every ") {
            let every = span
                .trim()
                .parse::<jiff::SignedDuration>()
                .ok()
                .and_then(|d| Duration::try_from(d).ok())
                .filter(|d| d.as_secs() > 0);
            let word = || ScheduleError::Word {
                text: text.to_owned(),
            };
            return Ok(Self {
                zone,
                rule: Rule::Every(every.ok_or_else(word)?),
            });
        }
        if fields.starts_with('@') {
            return Err(ScheduleError::Word {
                text: text.to_owned(),
            });
        }
        let parts: Vec<&str> = fields.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(ScheduleError::Fields {
                found: parts.len(),
                text: text.to_owned(),
            });
        };
        let mut weekdays = bits("weekday", weekday, 0, 7, &WEEKDAYS, 0)?;
        // Sunday is 0 and 7.
        if weekdays & (1 << 7) != 0 {
            weekdays |= 1;
        }
        let open = |part: &str| part.starts_with('*') || part.starts_with('?');
        Ok(Self {
            zone,
            rule: Rule::Fields {
                minutes: bits("minute", minute, 0, 59, &[], 0)?,
                hours: bits("hour", hour, 0, 23, &[], 0)?,
                days: bits("day of month", day, 1, 31, &[], 0)?,
                months: bits("month", month, 1, 12, &MONTHS, 1)?,
                weekdays,
                // Two restrictions on the day: one of them is enough.
                either_day: !open(day) && !open(weekday),
            },
        })
    }

    /// The first time after `after`; `None` if there is none in sight.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(every) => {
                let next = after.checked_add(*every).ok()?;
                Timestamp::from_second(next.as_second()).ok()
            }
            Rule::Fields { minutes, hours, .. } => {
                let start = after.to_zoned(self.zone.clone());
                let floor = ZonedRound::new()
                    .smallest(Unit::Minute)
                    .mode(jiff::RoundMode::Trunc);
                let mut at = start.round(floor).ok()?.checked_add(1.minute()).ok()?;
                let last = at.year().saturating_add(YEARS);
                while at.year() <= last {
                    let now = at.datetime();
                    if !self.is_day(now) {
                        at = at
                            .start_of_day()
                            .ok()?
                            .checked_add(1.day())
                            .ok()?
                            .start_of_day()
                            .ok()?;
                    } else if !has(*hours, now.hour()) {
                        let ahead = 60 - i64::from(now.minute());
                        at = at.checked_add(ahead.minutes()).ok()?;
                    } else if !has(*minutes, now.minute()) {
                        at = at.checked_add(1.minute()).ok()?;
                    } else {
                        return Some(at.timestamp());
                    }
                }
                None
            }
        }
    }

    fn is_day(&self, at: DateTime) -> bool {
        let Rule::Fields {
            days,
            months,
            weekdays,
            either_day,
            ..
        } = &self.rule
        else {
            return true;
        };
        let day = has(*days, at.day());
        let weekday = has(*weekdays, at.weekday().to_sunday_zero_offset());
        let fits = if *either_day {
            day || weekday
        } else {
            day && weekday
        };
        has(*months, at.month()) && fits
    }
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|v| v < 64 && bits & (1 << v) != 0)
}

/// Reads `*`, `a`, `a-b`, each with an optional `/step`, in a list.
fn bits(
    field: &'static str,
    text: &str,
    least: u32,
    most: u32,
    names: &[&str],
    first_name: u32,
) -> Result<u64, ScheduleError> {
    let mut set = 0;
    for part in text.split(',') {
        let wrong = || ScheduleError::Part {
            field,
            part: part.to_owned(),
        };
        let number = |text: &str| -> Option<u32> {
            let lower = text.to_ascii_lowercase();
            let named = names.iter().position(|n| *n == lower);
            let named = named
                .and_then(|i| u32::try_from(i).ok())
                .map(|i| i + first_name);
            named
                .or_else(|| text.parse().ok())
                .filter(|n| (least..=most).contains(n))
        };
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<u32>().ok().filter(|s| *s > 0);
                (range, Some(step.ok_or_else(wrong)?))
            }
            None => (part, None),
        };
        let (from, to) = match (range, range.split_once('-')) {
            ("*" | "?", _) => (least, most),
            (_, Some((from, to))) => (
                number(from).ok_or_else(wrong)?,
                number(to).ok_or_else(wrong)?,
            ),
            (one, None) => {
                let one = number(one).ok_or_else(wrong)?;
                (one, if step.is_some() { most } else { one })
            }
        };
        if from > to {
            return Err(wrong());
        }
        for value in (from..=to).step_by(usize::try_from(step.unwrap_or(1)).unwrap_or(1)) {
            set |= 1u64 << value;
        }
    }
    Ok(set)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_of_a_schedule() {
        // A Wednesday.
        let table = [
            ("* * * * *", "2020-01-01T00:00:30Z", "2020-01-01T00:01:00Z"),
            (
                "*/15 * * * *",
                "2020-01-01T00:15:00Z",
                "2020-01-01T00:30:00Z",
            ),
            (
                "5/20 * * * *",
                "2020-01-01T00:50:00Z",
                "2020-01-01T01:05:00Z",
            ),
            (
                "30 4 1,15 * 5",
                "2020-01-01T05:00:00Z",
                "2020-01-03T04:30:00Z",
            ),
            ("0 0 29 2 *", "2021-01-01T00:00:00Z", "2024-02-29T00:00:00Z"),
            (
                "0 9-17 * jan mon-FRI",
                "2020-01-03T17:30:00Z",
                "2020-01-06T09:00:00Z",
            ),
            ("0 0 * * 7", "2020-01-01T00:00:00Z", "2020-01-05T00:00:00Z"),
            ("@daily", "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"),
            (
                "@every 1h30m",
                "2020-01-01T00:00:00Z",
                "2020-01-01T01:30:00Z",
            ),
        ];
        for (text, after, expected) in table {
            let schedule = Schedule::parse(text, None).unwrap();
            let next = schedule.next(after.parse().unwrap()).unwrap();
            assert_eq!(next.to_string(), expected, "{text} after {after}");
        }
        let never = Schedule::parse("0 0 31 2 *", None).unwrap();
        assert_eq!(never.next(Timestamp::UNIX_EPOCH), None);
        for wrong in [
            "",
            "* * * *",
            "60 * * * *",
            "a * * * *",
            "*/0 * * * *",
            "9-1 * * * *",
            "@x",
        ] {
            assert!(Schedule::parse(wrong, None).is_err(), "{wrong}");
        }
        assert!(Schedule::parse("* * * * *", Some("No/Where")).is_err());
    }
}
