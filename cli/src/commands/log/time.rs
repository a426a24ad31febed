//! Moments as people write them.

use std::str::FromStr;

use codevol_protocol::release::UnixMillis;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// A moment: absolute, or so long before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// With an offset: `2026-11-17T14:00:00Z`.
    Absolute(Timestamp),
    /// On this machine's clock: `2026-11-17 14:00`.
    Local(DateTime),
    /// So many seconds before now: `3d ago`.
    Ago(i64),
}

/// The text is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no time: write `2026-11-17T14:00:00Z`, `2026-11-17 14:00` or `3d ago`", .0.escape_debug())]
pub struct InvalidMoment(String);

impl FromStr for Moment {
    type Err = InvalidMoment;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Ok(timestamp) = text.parse() {
            return Ok(Self::Absolute(timestamp));
        }
        if let Ok(local) = text.parse() {
            return Ok(Self::Local(local));
        }
        text.strip_suffix("ago")
            .and_then(|amounts| seconds(amounts.trim_end()))
            .map(Self::Ago)
            .ok_or_else(|| InvalidMoment(text.to_owned()))
    }
}

impl Moment {
    /// Returns when that is; nothing where it lies after now, or before 1970. A time that a clock
    /// shows twice is the first of the two.
    #[must_use]
    pub fn at(self, now: &Zoned) -> Option<UnixMillis> {
        let timestamp = match self {
            Self::Absolute(timestamp) => timestamp,
            Self::Local(local) => in_zone(local, now.time_zone())?,
            Self::Ago(seconds) => {
                Timestamp::from_second(now.timestamp().as_second().checked_sub(seconds)?).ok()?
            }
        };
        if timestamp > now.timestamp() {
            return None;
        }
        u64::try_from(timestamp.as_millisecond())
            .ok()
            .map(UnixMillis)
    }
}

fn in_zone(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let zoned = zone.to_ambiguous_zoned(local).compatible().ok()?;
    Some(zoned.timestamp())
}

/// Reads `3d`, `2h 30m`, `90s`.
fn seconds(amounts: &str) -> Option<i64> {
    let mut sum: i64 = 0;
    let mut rest = amounts;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = rest.split_at_checked(digits)?;
        let mut letters = unit.chars();
        let seconds = match letters.next()? {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            _ => return None,
        };
        let number: i64 = number.parse().ok()?;
        sum = sum.checked_add(number.checked_mul(seconds)?)?;
        rest = letters.as_str().trim_start();
        if rest.is_empty() {
            return Some(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz;

    use super::*;

    /// Two hours east of Greenwich, at 12:00 UTC.
    fn now() -> Zoned {
        let noon: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        noon.to_zoned(tz::offset(2).to_time_zone())
    }

    fn read(text: &str) -> Option<String> {
        let moment: Moment = text.parse().unwrap();
        moment.at(&now()).map(|at| at.to_string())
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        for (text, expected) in [
            ("2026-11-17T14:00:00Z", "2026-11-17T14:00:00.000Z"),
            ("2026-11-17T14:00:00.25+01:00", "2026-11-17T13:00:00.250Z"),
            ("2026-11-17 14:00", "2026-11-17T12:00:00.000Z"),
            ("2026-11-17T14:00:05", "2026-11-17T12:00:05.000Z"),
            ("2026-11-17", "2026-11-16T22:00:00.000Z"),
            ("3d ago", "2026-11-18T12:00:00.000Z"),
            ("2h 30m ago", "2026-11-21T09:30:00.000Z"),
            ("1w2d ago", "2026-11-12T12:00:00.000Z"),
            ("90s ago", "2026-11-21T11:58:30.000Z"),
            ("0s ago", "2026-11-21T12:00:00.000Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_moment_that_lies_ahead_or_before_1970_is_none() {
        for text in [
            "2026-11-21T12:00:01Z",
            "2026-11-21 14:01",
            "1969-12-31T23:59:59Z",
            "3000w ago",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "ago",
            "3 ago",
            "d ago",
            "3d",
            "3y ago",
            "-3d ago",
            "yesterday",
            "14:00",
            "2026-13-01 00:00",
            "99999999999999999999s ago",
            "9223372036854775807w ago",
            "é ago",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text:?} was taken");
        }
    }
}
