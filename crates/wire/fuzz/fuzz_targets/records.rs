//! Records of a batch that nobody verified, from a place of the fuzzer's choice.

#![no_main]

use bytes::Bytes;
use kontiki_wire::Batch;
use kontiki_wire_fuzz::seal_batch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((skip, bytes)) = bytes.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    seal_batch(&mut bytes);
    let Ok(batch) = Batch::trusted(Bytes::from(bytes)) else {
        return;
    };
    let count = batch.header().count as usize;
    let all: Vec<_> = batch.records().collect();
    assert!(all.iter().filter(|record| record.is_ok()).count() <= count);
    assert!(
        all.iter().rev().skip(1).all(Result::is_ok),
        "went on after an error"
    );

    let rest: Vec<_> = batch.records().skip_records((*skip).into()).collect();
    if all.iter().all(Result::is_ok) {
        assert_eq!(rest, all[all.len().min((*skip).into())..]);
    }
});
