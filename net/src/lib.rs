//! Looking at the outside network: names by DNS, small files by HTTPS.
#![forbid(unsafe_code)]
