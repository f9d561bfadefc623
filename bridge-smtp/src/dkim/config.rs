//! The table `bridge.smtp.dkim`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Signing of mail that leaves. `mesyx dns` shows the records that others verify it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DkimConfig {
    /// Signs what leaves, in domains that have keys (`mesyx dns keys list`).
    pub sign: bool,
    /// With which kinds of keys. Many hosts verify rsa-sha256 alone; ed25519-sha256 is for when they learn it.
    pub algorithms: Vec<Algorithm>,
}

impl Default for DkimConfig {
    fn default() -> Self {
        Self { sign: true, algorithms: vec![Algorithm::RsaSha256, Algorithm::Ed25519Sha256] }
    }
}

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// RSA with SHA-256, 2,048 bits here (RFC 8301).
    #[serde(rename = "rsa-sha256")]
    RsaSha256,
    /// Ed25519 over SHA-256 (RFC 8463).
    #[serde(rename = "ed25519-sha256")]
    Ed25519Sha256,
}

impl Algorithm {
    /// As `a=` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa-sha256",
            Self::Ed25519Sha256 => "ed25519-sha256",
        }
    }

    /// As `k=` of a DNS record has it.
    #[must_use]
    pub const fn key_type(self) -> &'static str {
        match self {
            Self::RsaSha256 => "rsa",
            Self::Ed25519Sha256 => "ed25519",
        }
    }
}
