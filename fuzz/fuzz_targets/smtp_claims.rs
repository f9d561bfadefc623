//! Fields that claim to be ours: none of them stays, whatever stands around it, and nothing else goes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesyx_bridge_smtp::without_claims;
use mesyx_sdk::mime;

const HOST: &str = "mail.example.org";

fuzz_target!(|data: &[u8]| {
    let kept = without_claims(HOST, data.to_vec());
    assert_eq!(without_claims(HOST, kept.clone()), kept, "a second time takes nothing");
    let mut rest = data;
    for byte in &kept {
        // What stays stood there in that order.
        let at = rest.iter().position(|other| other == byte).expect("nothing is put in");
        rest = &rest[at + 1..];
    }
    let (before, after) = (mime::fields(data).count(), mime::fields(&kept).count());
    assert!(after <= before);
    for field in mime::fields(&kept) {
        assert!(!field.name.to_ascii_lowercase().starts_with(b"mesyx-"));
        if field.is("Authentication-Results") {
            // Without comments and quotes the name is read by anybody.
            let value = mime::unfold(field.value).to_ascii_lowercase();
            assert!(!value.starts_with(b"mail.example.org;") && !value.starts_with(b"mail.example.org ;"));
        }
    }
    let others = |block: &[u8]| -> Vec<Vec<u8>> {
        let other = mime::fields(block).filter(|field| !field.is("Authentication-Results"));
        other.map(|field| block[field.range].to_vec()).filter(|field| !field.to_ascii_lowercase().starts_with(b"mesyx-")).collect()
    };
    assert_eq!(others(data), others(&kept), "fields of others stay");
});
