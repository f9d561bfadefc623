//! The bridge smtp as a shared library: `run = { library = "libmesyx_plugin_smtp.so" }`.

mesyx_sdk::plugin!(mesyx_bridge_smtp::Smtp, manifest = include_str!("../manifest.json"));
