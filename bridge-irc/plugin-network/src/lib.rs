//! The bridge irc-network as a shared library: `run = { library = "libmesyx_plugin_irc_network.so" }`.

mesyx_sdk::plugin!(mesyx_bridge_irc::network::IrcNetwork, manifest = include_str!("../manifest.json"));
