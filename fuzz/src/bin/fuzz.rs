//! libFuzzer around one target, which `CLADNET_FUZZ_TARGET` names.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("CLADNET_FUZZ_TARGET").unwrap_or_default();
    cladnet_fuzz::target(&name).unwrap_or_else(|| panic!("CLADNET_FUZZ_TARGET names no target: {name:?}"))
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));
