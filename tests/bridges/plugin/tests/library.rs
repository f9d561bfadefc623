//! The library that the whole program's tests load is built because this test links it.

use mesyx_plugin_misbehaving as _;

#[test]
fn it_is_linked() {}
