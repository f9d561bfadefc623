//! The bridge as a program: `run = { process = "xmpp-bridge" }`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    mesyx_sdk::main::<xmpp_bridge::Xmpp>()
}
