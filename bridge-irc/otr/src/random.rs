//! Random bytes of the operating system, also as the generator that the `dsa` crate asks for.

use crate::Error;
use rand_core::{TryCryptoRng, TryRng};

/// Fills `buffer` from the operating system.
pub(crate) fn fill(buffer: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(buffer).map_err(|_| Error::Random)
}

/// The operating system's generator.
pub(crate) struct SystemRandom;

impl TryRng for SystemRandom {
    type Error = Error;

    fn try_next_u32(&mut self) -> Result<u32, Error> {
        getrandom::u32().map_err(|_| Error::Random)
    }

    fn try_next_u64(&mut self) -> Result<u64, Error> {
        getrandom::u64().map_err(|_| Error::Random)
    }

    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        fill(buffer)
    }
}

impl TryCryptoRng for SystemRandom {}
