//! Mesyx: message exchange over a store that is sealed to its users' keys. This is the program; `docs/architecture.md`
//! shows how its parts belong together.
#![forbid(unsafe_code)]

#[macro_use]
mod output;

mod cli;
mod commands;
mod config;
mod control;
mod demo;
mod dns;
mod exit;
mod http;
mod init;
mod operate;
mod serve;
mod tls;
mod wkd;

use clap::Parser;
use std::alloc::System;
use std::process::ExitCode;
use zeroizing_alloc::ZeroAlloc;

/// Memory is erased when it is freed: keys, passwords and clear messages pass through buffers of many libraries.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // Whatever is written, store and backups too, is nobody else's.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    match serve::memory::undumpable().and_then(|()| commands::execute(cli)).and_then(|()| output::finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.text.lines() {
                eprintln!("mesyx: {line}");
            }
            ExitCode::from(failure.code)
        }
    }
}
