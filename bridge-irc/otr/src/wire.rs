//! The protocol's binary data types: BYTE, SHORT, INT, MPI and DATA, all big-endian.

use crate::Rejection;
use crate::group::{Element, Exponent};

/// The bytes of a number, without leading zeros and without the length in front.
pub(crate) type MpiBytes = Vec<u8>;

/// Builds a message.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn byte(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(crate) fn short(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn int(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// DATA and MPI alike: the length as INT, then the bytes. Lengths are bounded far below 4 GiB everywhere.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> &mut Self {
        self.int(bytes.len() as u32).raw(bytes)
    }

    pub(crate) fn element(&mut self, value: &Element) -> &mut Self {
        self.data(&value.to_bytes())
    }

    pub(crate) fn exponent(&mut self, value: &Exponent) -> &mut Self {
        self.data(&value.to_bytes())
    }
}

/// Takes a message apart; each step fails rather than read past the end.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// What is being read, for the error.
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn malformed(&self) -> Rejection {
        Rejection::Malformed(self.what)
    }

    pub(crate) fn raw(&mut self, length: usize) -> Result<&'a [u8], Rejection> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Rejection> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(self.malformed())?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Rejection> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn short(&mut self) -> Result<u16, Rejection> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn int(&mut self) -> Result<u32, Rejection> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn data(&mut self) -> Result<&'a [u8], Rejection> {
        let length = usize::try_from(self.int()?).map_err(|_| self.malformed())?;
        self.raw(length)
    }

    pub(crate) fn element(&mut self) -> Result<Element, Rejection> {
        Element::from_peer(self.data()?)
    }

    pub(crate) fn exponent(&mut self) -> Result<Exponent, Rejection> {
        Exponent::from_peer(self.data()?)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may follow.
    pub(crate) fn end(self) -> Result<(), Rejection> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}
