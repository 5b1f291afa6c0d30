//! A target under libFuzzer: the one that `KONTIKI_FUZZ` names.

#![no_main]

use std::sync::OnceLock;

use kontiki_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("KONTIKI_FUZZ").expect("KONTIKI_FUZZ names a target");
        kontiki_fuzz::target(&name).expect("KONTIKI_FUZZ names a target")
    });
    (target.run)(bytes);
});
