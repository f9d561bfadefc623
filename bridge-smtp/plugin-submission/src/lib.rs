//! The bridge submission as a shared library: `run = { library = "libmesyx_plugin_submission.so" }`.

use std::alloc::System;
use zeroizing_alloc::ZeroAlloc;

/// Memory is erased when it is freed, as the program does that loads this: passwords and clear messages pass through here.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

mesyx_sdk::plugin!(mesyx_bridge_smtp::Submission, manifest = include_str!("../manifest.json"));
