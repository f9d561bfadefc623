//! Keeps `v1.rs` what the `.proto` says.

use std::fs;
use std::path::PathBuf;

/// What the generator makes of the `.proto` now.
fn generate() -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto");
    let descriptors = protox::compile(["mesyx/bridge/v1/bridge.proto"], [root]).unwrap();
    let out = std::env::temp_dir().join(format!("mesyx-wire-{}", crate::MessageId::random()));
    fs::create_dir(&out).unwrap();
    let server = "#[cfg(feature = \"wire-host\")]";
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .server_mod_attribute(".", server)
        // Some messages hold passwords, keys or clear text.
        .skip_debug(["."])
        .bytes("body")
        .bytes("chunk")
        .bytes("data")
        .bytes("headers")
        .boxed(".mesyx.bridge.v1.Part.message")
        .out_dir(&out)
        .compile_fds(descriptors)
        .unwrap();
    let code = fs::read_to_string(out.join("mesyx.bridge.v1.rs")).unwrap();
    fs::remove_dir_all(out).unwrap();
    code
}

/// `MESYX_WRITE_GENERATED=1 cargo test -p mesyx-sdk generated` writes the file anew.
#[test]
fn the_generated_code_is_that_of_the_proto() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/wire/v1.rs");
    let wanted = generate();
    if std::env::var_os("MESYX_WRITE_GENERATED").is_some() {
        fs::write(&file, &wanted).unwrap();
    }
    assert!(fs::read_to_string(&file).unwrap() == wanted, "bridge.proto changed: see the comment on this test");
}
