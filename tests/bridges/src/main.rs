//! The bridge as a program.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    mesyx_sdk::main::<mesyx_misbehaving::Misbehaving>()
}
