//! Key files that somebody hands in. What is read as a secret key is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesyx_core::keys::import::{ImportLimits, read_certificates, read_secret_key_within};
use mesyx_sdk::Secret;
use sequoia_openpgp::serialize::SerializeInto;

/// Little enough for one run to be short, enough for the seeds' own parameters.
const LIMITS: ImportLimits =
    ImportLimits { hashed_bytes: 1 << 18, argon2_memory_kib: 64, argon2_work_kib: 256, ..ImportLimits::DEFAULT };

fuzz_target!(|bytes: &[u8]| {
    let passphrase = Secret::from("passphrase".to_owned());
    if let Ok(key) = read_secret_key_within(&LIMITS, bytes, Some(&passphrase)) {
        let written = key.as_tsk().to_vec().expect("what was read can be written");
        let again = read_secret_key_within(&LIMITS, &written, None).expect("what was written can be read");
        assert_eq!(again.as_tsk().to_vec().expect("written"), written);
    }
    if let Ok(certificates) = read_certificates(bytes) {
        assert!(certificates.iter().all(|certificate| !certificate.is_tsk()));
    }
});
