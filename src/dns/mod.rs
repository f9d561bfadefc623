//! What a domain needs in DNS to be found and trusted, and the DKIM keys behind it.
//!
//! ```text
//!  configuration, DKIM keys, listeners, certificate --> records --> text, zone file, JSON
//!                                                              \--> live --> what DNS says differently
//! ```

pub(crate) mod keys;
pub(crate) mod live;
pub(crate) mod records;
