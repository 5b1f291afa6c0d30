//! What a batch promises, at the edges.

use super::*;
use crate::{
    checksum::entry_checksum,
    limits::{HEADER_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX},
    record::Header,
};

fn record(timestamp: u64, value: &'static [u8]) -> Record {
    Record {
        timestamp,
        value: Bytes::from_static(value),
        ..Record::default()
    }
}

fn rich() -> Record {
    Record {
        timestamp: 7,
        key: Some(Bytes::from_static(b"key")),
        headers: vec![
            Header {
                name: "näme".to_owned(),
                value: Bytes::from_static(b"\x00\xff"),
            },
            Header {
                name: String::new(),
                value: Bytes::new(),
            },
        ],
        value: Bytes::from_static(b"value"),
    }
}

fn batch_of(records: &[Record]) -> Batch {
    let mut builder = BatchBuilder::new(0);
    for record in records {
        builder.push(record).unwrap();
    }
    builder.finish(ProducerId(3), 2, 1)
}

/// The batch with this change, and checksums that match it again.
fn forged(batch: &Batch, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch.bytes().to_vec();
    change(&mut bytes);
    let records = crc32c::crc32c(&bytes[64..]);
    bytes[12..16].copy_from_slice(&records.to_le_bytes());
    let header = masked(crc32c::crc32c(&bytes[..60]));
    bytes[60..64].copy_from_slice(&header.to_le_bytes());
    bytes.into()
}

/// A batch of one record whose bytes after its length are these.
fn batch_around(record: &[u8]) -> Bytes {
    forged(&batch_of(&[record_of_nothing()]), |bytes| {
        bytes.truncate(64);
        bytes.push(record.len() as u8);
        bytes.extend_from_slice(record);
        let length = bytes.len() as u32 - 64;
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
    })
}

fn record_of_nothing() -> Record {
    Record::default()
}

#[test]
fn records_come_back_as_they_went_in() {
    let records = [
        record(1_000, b"first"),
        record(999, b"earlier"),
        record(u64::MAX, b""),
        record(0, b"at the epoch"),
        rich(),
        Record {
            key: Some(Bytes::new()),
            ..record_of_nothing()
        },
    ];
    let batch = batch_of(&records);
    assert_eq!(
        *batch.header(),
        BatchHeader {
            count: 6,
            producer: ProducerId(3),
            epoch: 2,
            sequence: 1,
            timestamp: 1_000,
        }
    );
    let again = Batch::verify(batch.bytes().clone()).unwrap();
    assert_eq!(again, batch);
    let read: Vec<Record> = again.records().collect::<Result<_, _>>().unwrap();
    assert_eq!(read, records);
}

#[test]
fn a_small_record_costs_at_most_six_bytes_beside_its_value() {
    let mut builder = BatchBuilder::new(0);
    let value = &[0; 100];
    builder.push(&record(0, value)).unwrap();
    assert_eq!(builder.len(), BATCH_HEADER_BYTES + 104);
    builder.push(&record(1_000_000, value)).unwrap();
    assert_eq!(builder.len(), BATCH_HEADER_BYTES + 104 + 106);
}

#[test]
fn records_share_the_bytes_of_their_batch() {
    let batch = batch_of(&[rich()]);
    let shared = batch.bytes().as_ptr_range();
    let record = batch.records().next().unwrap().unwrap();
    for part in [
        record.value,
        record.key.unwrap(),
        record.headers[0].value.clone(),
    ] {
        assert!(shared.contains(&part.as_ptr()));
    }
}

#[test]
fn records_after_a_skip_are_those_from_there_on() {
    let records: Vec<_> = (0..5).map(|n| record(n, b"x")).collect();
    let batch = batch_of(&records);
    for skip in 0..7 {
        let rest: Vec<_> = batch
            .records()
            .skip_records(skip)
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(rest, records[(skip as usize).min(5)..]);
    }
    let rest = batch.records().skip_records(2).skip_records(2);
    assert_eq!(rest.count(), 1);
}

#[test]
fn a_refused_record_leaves_the_batch_as_it_was() {
    let too_large = |what: &Record| {
        let mut builder = BatchBuilder::new(0);
        builder.push(&record(5, b"kept")).unwrap();
        let before = builder.len();
        let Err(Malformed::TooLarge { what, limit, .. }) = builder.push(what) else {
            panic!("taken");
        };
        assert_eq!((builder.len(), builder.count()), (before, 1));
        let batch = builder.finish(ProducerId(0), 0, 0);
        assert_eq!(batch.records().count(), 1);
        (what, limit as usize)
    };
    let header = |name: usize, value: usize| Header {
        name: "n".repeat(name),
        value: vec![0; value].into(),
    };
    let key = |len: usize| Some(vec![0; len].into());
    assert_eq!(
        too_large(&Record {
            value: vec![0; VALUE_BYTES_MAX + 1].into(),
            ..record_of_nothing()
        }),
        ("the length of a value", VALUE_BYTES_MAX)
    );
    assert_eq!(
        too_large(&Record {
            key: key(KEY_BYTES_MAX + 1),
            ..record_of_nothing()
        }),
        ("the length of a key", KEY_BYTES_MAX)
    );
    let with = |headers| Record {
        headers,
        ..record_of_nothing()
    };
    assert_eq!(
        too_large(&with(vec![header(1, 1); HEADERS_MAX + 1])),
        ("the number of headers", HEADERS_MAX)
    );
    assert_eq!(
        too_large(&with(vec![header(HEADER_BYTES_MAX + 1, 0)])).0,
        "the length of a header's name"
    );
    assert_eq!(
        too_large(&with(vec![header(0, HEADER_BYTES_MAX + 1)])).0,
        "the length of a header's value"
    );
    assert_eq!(
        too_large(&Record {
            value: vec![0; VALUE_BYTES_MAX].into(),
            ..with(vec![
                header(HEADER_BYTES_MAX, HEADER_BYTES_MAX);
                HEADERS_MAX
            ])
        })
        .0,
        "the length of a record"
    );
}

#[test]
fn a_batch_takes_records_up_to_its_bounds_and_fits_foretells_it() {
    let mut builder = BatchBuilder::new(0);
    let large = Record {
        value: vec![0; VALUE_BYTES_MAX].into(),
        ..record_of_nothing()
    };
    assert!(builder.fits(large.encoded_bytes_max()));
    builder.push(&large).unwrap();
    assert!(!builder.fits(large.encoded_bytes_max()));
    assert!(builder.push(&large).is_err());
    let batch = builder.finish(ProducerId(0), 0, 0);
    assert!(Batch::verify(batch.bytes().clone()).is_ok());

    let mut builder = BatchBuilder::new(0);
    for _ in 0..BATCH_RECORDS_MAX {
        assert!(builder.fits(record_of_nothing().encoded_bytes_max()));
        builder.push(&record_of_nothing()).unwrap();
    }
    assert!(!builder.fits(0));
    assert!(builder.push(&record_of_nothing()).is_err());
    let batch = builder.finish(ProducerId(0), 0, 0);
    assert!(Batch::verify(batch.bytes().clone()).is_ok());
}

#[test]
fn encoded_bytes_max_is_reached_by_the_farthest_timestamp() {
    let mut builder = BatchBuilder::new(0);
    builder.push(&record(1 << 63, b"")).unwrap();
    let before = builder.len();
    builder.push(&record(0, b"abc")).unwrap();
    let bytes = record(0, b"abc").encoded_bytes_max();
    assert_eq!(builder.len() - before, bytes);
}

#[test]
fn the_checksum_of_a_batch_is_that_of_its_bytes_whether_derived_or_computed() {
    for bytes in [
        1,
        100,
        HASH_AGAIN_BYTES - 5,
        HASH_AGAIN_BYTES,
        300_000,
        VALUE_BYTES_MAX,
    ] {
        let value: Vec<u8> = (0..bytes).map(|n| (n * 7) as u8).collect();
        let batch = batch_of(&[Record {
            value: value.into(),
            ..record_of_nothing()
        }]);
        assert_eq!(batch.checksum(), entry_checksum(batch.bytes()), "{bytes}");
    }
}

#[test]
fn batches_that_differ_in_their_headers_alone_differ_in_their_checksums() {
    let build = |sequence| {
        let mut builder = BatchBuilder::new(0);
        builder.push(&record(0, b"the same")).unwrap();
        builder.finish(ProducerId(1), 1, sequence).checksum()
    };
    assert_ne!(build(1), build(2));
}

#[test]
fn trusted_reads_only_the_header_and_intact_adds_the_bytes_and_verify_the_records() {
    let batch = batch_of(&[record(0, b"value")]);
    let flipped: Bytes = {
        let mut bytes = batch.bytes().to_vec();
        bytes[70] ^= 1;
        bytes.into()
    };
    assert!(Batch::trusted(flipped.clone()).is_ok());
    assert_eq!(
        Batch::intact(flipped),
        Err(Malformed::Checksum { what: RECORDS })
    );
    let misfit = forged(&batch, |bytes| bytes[64] -= 1);
    assert!(Batch::intact(misfit.clone()).is_ok());
    assert_eq!(
        Batch::verify(misfit.clone()),
        Err(Malformed::Trailing {
            what: RECORDS,
            left: 1
        })
    );
    let read: Vec<_> = Batch::trusted(misfit).unwrap().records().collect();
    assert!(matches!(
        read.as_slice(),
        [Ok(_), Err(Malformed::Trailing { .. })]
    ));
}

#[test]
fn a_header_that_contradicts_itself_is_refused_although_its_checksum_matches() {
    let batch = batch_of(&[record(0, b"value"), record(0, b"value")]);
    let refused = |at: usize, bytes: &[u8]| {
        let end = at + bytes.len();
        let forged = forged(&batch, |batch| batch[at..end].copy_from_slice(bytes));
        Batch::trusted(forged)
            .expect_err("a header that cannot be")
            .to_string()
    };
    assert!(refused(0, b"XX").contains("magic"));
    assert!(refused(2, &[2]).contains("version"));
    assert!(refused(3, &[1]).contains("reserved"));
    assert!(refused(59, &[1]).contains("reserved"));
    assert!(refused(4, &[0; 4]).contains("number of records"));
    assert!(refused(4, &u32::MAX.to_le_bytes()).contains("number of records"));
    assert!(refused(4, &6u32.to_le_bytes()).contains("number of records"));
    for length in [0, 17, 19, u32::MAX] {
        assert!(refused(8, &u32::to_le_bytes(length)).contains("length"));
    }
    assert!(refused(32, &u64::MAX.to_le_bytes()).contains("sequence"));
}

#[test]
fn a_record_whose_parts_overrun_it_is_refused() {
    let good: &[u8] = &[0, 2, b'k', 1, 1, b'n', 1, b'v', b'!'];
    assert!(Batch::verify(batch_around(good)).is_ok());
    assert!(matches!(
        Batch::verify(batch_around(&[2, 0, 0])),
        Err(Malformed::Inconsistent { .. })
    ));
    let bad: &[(&str, &[u8])] = &[
        ("distance too long", &[0xff; 11]),
        ("distance not shortest", &[0x80, 0, 0, 0]),
        ("key beyond the record", &[0, 4, b'k', b'e']),
        (
            "key of 2^63",
            &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ),
        ("no header count", &[0, 1, 0x80]),
        ("headers beyond the record", &[0, 0, 3, 0, 0]),
        ("65 headers", &[0, 0, 65]),
        ("name beyond the record", &[0, 0, 1, 5, b'n']),
        ("name not utf-8", &[0, 0, 1, 1, 0xff, 0]),
        (
            "header value beyond the record",
            &[0, 0, 1, 1, b'n', 2, b'v'],
        ),
    ];
    for (what, record) in bad {
        let bytes = batch_around(record);
        assert!(Batch::verify(bytes.clone()).is_err(), "{what}");
        let mut records = Batch::intact(bytes).unwrap().records();
        assert!(matches!(records.next(), Some(Err(_))), "{what}");
        assert_eq!(records.next(), None, "{what}");
    }
}

#[test]
fn a_record_that_cannot_be_skipped_is_an_error_when_read() {
    let batch = Batch::intact(batch_around(&[0, 0, 0])).unwrap();
    let bytes = forged(&batch, |bytes| bytes[64] = 100);
    let mut records = Batch::intact(bytes).unwrap().records().skip_records(1);
    assert!(matches!(records.next(), Some(Err(Malformed::Short { .. }))));
    assert_eq!(records.next(), None);
}

#[test]
fn a_finished_batch_does_not_hold_a_buffer_much_larger_than_itself() {
    let mut builder = BatchBuilder::new(256 << 10);
    builder.push(&record(0, b"small")).unwrap();
    let batch = builder.finish(ProducerId(0), 0, 0);
    let bytes = batch.bytes.try_into_mut().expect("nobody else has it");
    assert_eq!(bytes.capacity(), bytes.len());
}
