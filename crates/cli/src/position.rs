//! The grammar of `--from` and `--until`.

use jiff::Timestamp;
use kontiki_wire::{From as Start, Offset, Until};

use crate::{
    moment::{TIME_FORMS, parse_time},
    nearest::nearest,
};

/// Where to begin: `earliest`, `latest`, an offset, `-N`, or a time.
pub(crate) fn parse_start(text: &str) -> Result<Start, String> {
    start_at(text, Timestamp::now())
}

/// Where to end: `end`, an offset, or a time.
pub(crate) fn parse_end(text: &str) -> Result<Until, String> {
    end_at(text, Timestamp::now())
}

fn start_at(text: &str, now: Timestamp) -> Result<Start, String> {
    match text {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        "beginning" | "start" | "oldest" | "first" => {
            return Err("the first record there is, is called earliest".into());
        }
        "end" | "newest" | "now" | "tail" | "last" => {
            return Err(
                "the next record to be appended is called latest; the last ten are -10".into(),
            );
        }
        _ => {}
    }
    if let Some(count) = text.strip_prefix('-').filter(|rest| is_number(rest)) {
        return number(text, count).map(Start::Last);
    }
    if is_number(text) {
        return number(text, text).map(|offset| Start::Offset(Offset(offset)));
    }
    if let Some(name) = word(text)
        .then(|| nearest(text, ["earliest", "latest"]))
        .flatten()
    {
        return Err(format!(
            "{text:?} is no place to begin; did you mean {name}?"
        ));
    }
    if word(text) {
        return Err(format!(
            "{text:?} is no place to begin; it is earliest, latest, an offset such as 42, -10 for the last ten, or a time: {TIME_FORMS}"
        ));
    }
    parse_time(text, now).map(Start::Time)
}

fn end_at(text: &str, now: Timestamp) -> Result<Until, String> {
    match text {
        "end" => return Ok(Until::End),
        "latest" | "now" => return Err("the end of the topic as it is now is called end".into()),
        _ => {}
    }
    if text.strip_prefix('-').is_some_and(is_number) {
        return Err(format!(
            "{text} does not say what it counts; the end is end, an offset such as 42, or a time such as {text}m"
        ));
    }
    if is_number(text) {
        return number(text, text).map(|offset| Until::Offset(Offset(offset)));
    }
    if word(text) {
        return Err(format!(
            "{text:?} is no place to end; it is end, an offset such as 42, or a time: {TIME_FORMS}"
        ));
    }
    parse_time(text, now).map(Until::Time)
}

fn word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphabetic())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(text: &str, digits: &str) -> Result<u64, String> {
    digits
        .parse()
        .map_err(|_| format!("{text} is beyond the largest offset, {}", u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(text: &str) -> Result<Start, String> {
        start_at(text, Timestamp::UNIX_EPOCH)
    }

    fn end(text: &str) -> Result<Until, String> {
        end_at(text, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn every_form_of_the_start_is_read() {
        assert_eq!(start("earliest"), Ok(Start::Earliest));
        assert_eq!(start("latest"), Ok(Start::Latest));
        assert_eq!(start("42"), Ok(Start::Offset(Offset(42))));
        assert_eq!(start("-10"), Ok(Start::Last(10)));
        assert_eq!(start("-0"), Ok(Start::Last(0)));
        assert_eq!(start("-10m"), Ok(Start::Time(0)));
        assert_eq!(start("1970-01-02"), Ok(Start::Time(86_400_000_000)));
    }

    #[test]
    fn every_form_of_the_end_is_read() {
        assert_eq!(end("end"), Ok(Until::End));
        assert_eq!(end("42"), Ok(Until::Offset(Offset(42))));
        assert_eq!(end("1970-01-02T00:00:00Z"), Ok(Until::Time(86_400_000_000)));
    }

    #[test]
    fn other_words_are_refused_with_the_right_one() {
        assert!(start("earlist").unwrap_err().contains("earliest?"));
        assert!(start("beginning").unwrap_err().contains("earliest"));
        assert!(start("end").unwrap_err().contains("latest"));
        assert!(start("whatever").unwrap_err().contains("-10"));
        assert!(end("latest").unwrap_err().contains("called end"));
        assert!(end("-10").unwrap_err().contains("-10m"));
        assert!(end("whenever").unwrap_err().contains("offset"));
    }

    #[test]
    fn numbers_past_every_offset_are_refused() {
        assert!(
            start("18446744073709551616")
                .unwrap_err()
                .contains("largest offset")
        );
        assert!(
            start("-18446744073709551616")
                .unwrap_err()
                .contains("largest offset")
        );
        assert_eq!(
            start("18446744073709551615"),
            Ok(Start::Offset(Offset(u64::MAX)))
        );
        for wrong in ["", "-", "+5", "4 2", "0x10", "1h", "4.2"] {
            start(wrong).unwrap_err();
            end(wrong).unwrap_err();
        }
    }
}
