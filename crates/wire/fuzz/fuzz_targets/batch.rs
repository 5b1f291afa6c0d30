//! Batches as a producer would send them: what is verified is what a builder would make.

#![no_main]

use bytes::Bytes;
use kontiki_wire::{Batch, BatchBuilder, entry_checksum};
use kontiki_wire_fuzz::seal_batch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Batch::verify(Bytes::copy_from_slice(bytes));
    let mut bytes = bytes.to_vec();
    seal_batch(&mut bytes);
    let bytes = Bytes::from(bytes);
    let Ok(batch) = Batch::verify(bytes.clone()) else {
        return;
    };
    assert_eq!(batch.checksum(), entry_checksum(&bytes));
    let mut builder = BatchBuilder::new(bytes.len());
    for record in batch.records() {
        let record = record.expect("a verified record");
        builder.push(&record).expect("a record that was in a batch");
    }
    let header = *batch.header();
    assert_eq!(builder.count(), header.count);
    let again = builder.finish(header.producer, header.epoch, header.sequence);
    assert_eq!(again, batch, "two spellings of one batch");
});
