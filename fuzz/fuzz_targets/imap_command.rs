//! IMAP commands: any bytes, however cut, are read as the same commands and refusals.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesyx_bridge_imap::fuzz;

fuzz_target!(|data: &[u8]| {
    let Some((&first, bytes)) = data.split_first() else { return };
    let (logged_in, piece) = (first & 1 == 1, usize::from(first >> 1) + 1);
    // Input before login is counted as it comes, so that only shorter inputs end alike.
    if bytes.len() <= 100_000 {
        assert_eq!(fuzz(bytes, bytes.len(), logged_in), fuzz(bytes, piece, logged_in));
    }
});
