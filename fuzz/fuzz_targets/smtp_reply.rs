//! Sending: whatever a server says, however cut, our side keeps its promises; see `outbound::simulate::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesyx_bridge_smtp::outbound::simulate;

fuzz_target!(|data: &[u8]| simulate::fuzz(data));
