//! The bridge irc-client as a shared library: `run = { library = "libmesyx_plugin_irc_client.so" }`.

mesyx_sdk::plugin!(mesyx_bridge_irc::client::IrcClient, manifest = include_str!("../manifest.json"));
