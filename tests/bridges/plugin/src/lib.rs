//! The bridge that misbehaves as a shared library.

mesyx_sdk::plugin!(mesyx_misbehaving::Misbehaving, manifest = include_str!("../manifest.json"));
