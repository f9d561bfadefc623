//! The bridge as a program: `run = { process = "xmpp-bridge" }`.
fn main() -> std::process::ExitCode {
    mesyx_sdk::main::<xmpp_bridge::Xmpp>()
}
