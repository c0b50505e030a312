//! Bytes that wait to be sent.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Where bytes to be sent are held.
pub(crate) enum Payload {
    /// What a program wrote, or a copy of it.
    Object(Py<PyBytes>),
    /// Records of TLS.
    Records(Vec<u8>),
}

impl Payload {
    pub(crate) fn as_bytes(&self, py: Python<'_>) -> &[u8] {
        match self {
            Self::Object(bytes) => bytes.as_bytes(py),
            Self::Records(bytes) => bytes,
        }
    }
}

/// Bytes to be sent, and how many of them were.
pub(crate) struct Chunk {
    pub(crate) bytes: Payload,
    pub(crate) sent: usize,
}

impl Chunk {
    /// What is still to be sent.
    pub(crate) fn unsent<'a>(&'a self, py: Python<'a>) -> &'a [u8] {
        &self.bytes.as_bytes(py)[self.sent..]
    }
}
