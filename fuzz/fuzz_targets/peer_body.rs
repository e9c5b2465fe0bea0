//! The body of a frame between nodes.
#![no_main]

#[allow(dead_code, reason = "each target runs one")]
#[path = "../../crates/wire/tests/support/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // Refused is as good as accepted; what must not happen panics inside.
    let _ = targets::peer_body(data);
});
