//! A message as intake and submission look at it for PGP: keys in headers and attachments, what was protected before, what is to be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesyx_core::pgp::measure::look_at;

fuzz_target!(|bytes: &[u8]| look_at(bytes));
