//! The bridge imap as a shared library: `run = { library = "libmesyx_plugin_imap.so" }`.

mesyx_sdk::plugin!(mesyx_bridge_imap::Imap, manifest = include_str!("../manifest.json"));
