//! How a record looks on stdout.

use base64::{Engine, engine::general_purpose::STANDARD};
use kontiki_client::{Delivered, Header};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{exit::Failure, moment::format_micros};

/// How a record is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// The value and a line end.
    Text,
    /// An object a line.
    Json,
    /// The value alone, nothing between two.
    Raw,
}

/// Prints records.
pub(crate) struct Writer {
    format: Format,
    /// Values may hold what would take over a terminal.
    terminal: bool,
}

impl Writer {
    /// In this format; with control characters made visible if `terminal` is to show them.
    pub(crate) const fn new(format: Format, terminal: bool) -> Self {
        Self { format, terminal }
    }

    /// Appends the record as it is printed.
    pub(crate) fn write(&self, delivered: &Delivered, out: &mut Vec<u8>) -> Result<(), Failure> {
        let value = &delivered.record.value;
        match self.format {
            Format::Raw => out.extend_from_slice(value),
            Format::Text if self.terminal => visible(value, out),
            Format::Text => out.extend_from_slice(value),
            Format::Json => serde_json::to_writer(&mut *out, &Shown(delivered))
                .map_err(|error| Failure::new(format!("cannot write JSON: {error}")))?,
        }
        if self.format != Format::Raw {
            out.push(b'\n');
        }
        Ok(())
    }
}

/// Text as it is, control characters but tabs as `\u{1b}`, bytes that are no UTF-8 as `\xff`.
fn visible(value: &[u8], out: &mut Vec<u8>) {
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() && c != '\t' {
                out.extend(c.escape_default().to_string().into_bytes());
            } else {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        for byte in chunk.invalid() {
            out.extend(byte.escape_ascii());
        }
    }
}

/// A record as an object; the names are part of the command line's contract.
struct Shown<'a>(&'a Delivered);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Delivered {
            offset,
            timestamp,
            record,
        } = self.0;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("offset", &offset.0)?;
        map.serialize_entry("timestamp", &format_micros(*timestamp))?;
        match &record.key {
            None => map.serialize_entry("key", &())?,
            Some(key) => entry(&mut map, "key", "key_base64", key)?,
        }
        map.serialize_entry("headers", &Headers(&record.headers))?;
        entry(&mut map, "value", "value_base64", &record.value)?;
        map.end()
    }
}

/// Headers keep their order and may share a name, so they are a list of objects.
struct Headers<'a>(&'a [Header]);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(OneHeader))
    }
}

struct OneHeader<'a>(&'a Header);

impl Serialize for OneHeader<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("name", &self.0.name)?;
        entry(&mut map, "value", "value_base64", &self.0.value)?;
        map.end()
    }
}

fn entry<M: SerializeMap>(
    map: &mut M,
    name: &'static str,
    name_base64: &'static str,
    bytes: &[u8],
) -> Result<(), M::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.serialize_entry(name, text),
        Err(_) => map.serialize_entry(name_base64, &STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use kontiki_client::{Offset, Record};

    use super::*;

    fn printed(format: Format, terminal: bool, record: Record) -> String {
        let delivered = Delivered {
            offset: Offset(7),
            timestamp: 1_500_000,
            record,
        };
        let mut out = Vec::new();
        Writer::new(format, terminal)
            .write(&delivered, &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    fn value(value: &'static [u8]) -> Record {
        Record {
            value: value.into(),
            ..Record::default()
        }
    }

    #[test]
    fn json_has_the_names_of_the_contract() {
        assert_eq!(
            printed(Format::Json, false, value(b"hello")),
            "{\"offset\":7,\"timestamp\":\"1970-01-01T00:00:01.500000Z\",\"key\":null,\"headers\":[],\"value\":\"hello\"}\n"
        );
    }

    #[test]
    fn json_carries_any_bytes() {
        let headers = vec![
            Header {
                name: "a".into(),
                value: "b".into(),
            },
            Header {
                name: "a".into(),
                value: vec![255].into(),
            },
        ];
        let record = Record {
            key: Some(vec![254].into()),
            headers,
            ..value(&[0xff, 0])
        };
        let text = printed(Format::Json, false, record);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["value_base64"], "/wA=");
        assert_eq!(json["key_base64"], "/g==");
        assert_eq!(json["headers"][0]["value"], "b");
        assert_eq!(json["headers"][1]["value_base64"], "/w==");
        assert_eq!(json.get("value"), None);
    }

    #[test]
    fn text_ends_lines_and_raw_does_not() {
        assert_eq!(
            printed(Format::Text, false, value(b"a\x1b[2J")),
            "a\x1b[2J\n"
        );
        assert_eq!(printed(Format::Raw, true, value(b"a\x1b[2J")), "a\x1b[2J");
    }

    #[test]
    fn a_terminal_is_shown_control_characters_and_strange_bytes_not_given_them() {
        assert_eq!(
            printed(Format::Text, true, value(b"a\tb\x1b[2J\xff\xc3\xa4")),
            "a\tb\\u{1b}[2J\\xff\u{e4}\n"
        );
    }
}
