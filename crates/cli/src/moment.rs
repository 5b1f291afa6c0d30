//! Points in time as a person writes and reads them.

use std::time::Duration;

use jiff::{Timestamp, civil};

/// What a time may look like, for refusals and help.
pub(crate) const TIME_FORMS: &str = "2026-03-01T12:00:00Z, 2026-03-01T12:00:00+02:00, 2026-03-01 (its start in UTC), -15m, -1h30m, -2d";

/// Microseconds since the Unix epoch for a time written as RFC 3339, as a date, or as a span before
/// `now`. What could mean two things is refused with the unambiguous forms.
pub(crate) fn parse_time(text: &str, now: Timestamp) -> Result<u64, String> {
    if let Some(span) = text.strip_prefix('-') {
        let before = parse_span(span).ok_or_else(|| {
            format!("{text:?} is no span before now; write it like -90s, -15m, -1h30m or -2d")
        })?;
        let now = micros(now).ok_or("the clock of this machine stands before 1970")?;
        return Ok(now.saturating_sub(u64::try_from(before.as_micros()).unwrap_or(u64::MAX)));
    }
    if parse_span(text).is_some() {
        return Err(format!(
            "{text:?} could be before or after now; a span before now is -{text}"
        ));
    }
    if is_date(text) {
        let date: civil::Date = text
            .parse()
            .map_err(|_| format!("{text:?} is no day of the calendar"))?;
        let start = format!("{date}T00:00:00Z")
            .parse()
            .map_err(|_| format!("{text:?} is out of range"))?;
        return since_epoch(text, start);
    }
    match text.parse::<Timestamp>() {
        Ok(time) => since_epoch(text, time),
        Err(_) if text.parse::<civil::DateTime>().is_ok() => Err(format!(
            "{text:?} does not say in which time zone; add Z for UTC or an offset such as +02:00"
        )),
        Err(_) => Err(format!(
            "{text:?} is no time; a time is one of {TIME_FORMS}"
        )),
    }
}

/// RFC 3339 in UTC with microseconds, or the bare number if no calendar reaches that far.
pub(crate) fn format_micros(micros: u64) -> String {
    i64::try_from(micros)
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .map_or_else(|| micros.to_string(), |time| format!("{time:.6}"))
}

/// A span such as `90s`, `15m`, `1h30m`, `2d`: whole numbers, each with a unit, larger units first.
pub(crate) fn parse_span(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 6] = [
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut rest = text;
    let mut millis = 0_u64;
    let mut units = &UNITS[..];
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let at = units.iter().position(|(name, _)| *name == unit)?;
        millis = number
            .parse::<u64>()
            .ok()?
            .checked_mul(units[at].1)?
            .checked_add(millis)?;
        units = &units[at + 1..];
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

fn micros(time: Timestamp) -> Option<u64> {
    u64::try_from(time.as_microsecond()).ok()
}

fn since_epoch(text: &str, time: Timestamp) -> Result<u64, String> {
    micros(time).ok_or_else(|| format!("{text:?} lies before 1970, when no record was appended"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<u64, String> {
        parse_time(text, "2026-03-02T00:00:00Z".parse().unwrap())
    }

    fn rfc(text: &str) -> String {
        format_micros(at(text).unwrap())
    }

    #[test]
    fn times_of_the_calendar_are_read() {
        assert_eq!(rfc("2026-03-01T12:00:00Z"), "2026-03-01T12:00:00.000000Z");
        assert_eq!(
            rfc("2026-03-01T12:00:00.25+02:00"),
            "2026-03-01T10:00:00.250000Z"
        );
        assert_eq!(rfc("2026-03-01"), "2026-03-01T00:00:00.000000Z");
    }

    #[test]
    fn spans_count_back_from_now() {
        assert_eq!(rfc("-1h"), "2026-03-01T23:00:00.000000Z");
        assert_eq!(rfc("-1h30m"), "2026-03-01T22:30:00.000000Z");
        assert_eq!(rfc("-2d"), "2026-02-28T00:00:00.000000Z");
        assert_eq!(rfc("-250ms"), "2026-03-01T23:59:59.750000Z");
        assert_eq!(at("-9999999w"), Ok(0), "before the epoch is the epoch");
    }

    #[test]
    fn what_could_mean_two_things_is_refused_with_the_clear_form() {
        assert!(at("1h").unwrap_err().contains("-1h"));
        assert!(at("2026-03-01T12:00:00").unwrap_err().contains("add Z"));
        assert!(at("2026-03-01 12:00").unwrap_err().contains("add Z"));
        assert!(at("03/01/2026").unwrap_err().contains("2026-03-01"));
        assert!(at("2026-02-30").unwrap_err().contains("calendar"));
        assert!(at("1969-12-31").unwrap_err().contains("1970"));
        for wrong in [
            "-1M",
            "-1.5h",
            "-h",
            "-",
            "-30m1h",
            "-1h1h",
            "-99999999999999999999w",
            "",
            "yesterday",
        ] {
            at(wrong).unwrap_err();
        }
    }

    #[test]
    fn a_time_beyond_every_calendar_is_still_shown() {
        assert_eq!(format_micros(u64::MAX), u64::MAX.to_string());
        assert_eq!(format_micros(0), "1970-01-01T00:00:00.000000Z");
    }
}
