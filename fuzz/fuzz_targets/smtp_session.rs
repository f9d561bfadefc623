//! SMTP conversations: any bytes, however cut, give the same replies and messages; see `simulate::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesyx_bridge_smtp::proto::simulate;

fuzz_target!(|data: &[u8]| simulate::fuzz(data));
