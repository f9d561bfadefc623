//! The bridge submission as a shared library: `run = { library = "libmesyx_plugin_submission.so" }`.

mesyx_sdk::plugin!(mesyx_bridge_smtp::Submission, manifest = include_str!("../manifest.json"));
