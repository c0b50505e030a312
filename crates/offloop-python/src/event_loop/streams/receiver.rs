//! The protocol that gets what a stream receives, and which of its methods are called.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::feeding;

/// The class of protocols for whose streams the TLS floor reads records.
static TLS_PROTOCOL: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Has the TLS floor read records for streams whose protocol is of exactly this class. Such a
/// protocol keeps its native half in `_tls`.
#[pyfunction]
pub(crate) fn register_tls_protocol(class: Bound<'_, PyType>) {
    // The first class stays; the methods of protocols of another class are called.
    let _ = TLS_PROTOCOL.set(class.py(), class.clone().unbind());
}

/// The protocol, by what it wants to be called. Its methods are looked up at each call, as in the
/// standard transport: a program may replace them at any time.
pub(crate) enum Receiver {
    /// `data_received`.
    Data(Py<PyAny>),
    /// The standard protocol of a stream reader, which is fed here.
    Reader(Py<PyAny>),
    /// `get_buffer` and `buffer_updated`.
    Buffered(Py<PyAny>),
    /// Records of TLS: the object that decrypts them, which is one of the TLS floor.
    Tls(Py<PyAny>),
    None,
}

impl Receiver {
    /// How `protocol` wants to be called, as the protocol of a stream. A protocol that the program
    /// has put in the place of the registered class, or in front of it, is called for each packet.
    pub(crate) fn of_stream(protocol: &Bound<'_, PyAny>, buffered: bool) -> PyResult<Self> {
        let py = protocol.py();
        let class = TLS_PROTOCOL.get(py);
        if class.is_some_and(|class| protocol.get_type().is(class)) {
            return Ok(Self::Tls(protocol.getattr(intern!(py, "_tls"))?.unbind()));
        }
        Self::of(protocol, buffered)
    }

    /// How `protocol` wants to be called.
    pub(crate) fn of(protocol: &Bound<'_, PyAny>, buffered: bool) -> PyResult<Self> {
        let held = protocol.clone().unbind();
        Ok(if buffered {
            Self::Buffered(held)
        } else if feeding::is_standard(protocol)? {
            Self::Reader(held)
        } else {
            Self::Data(held)
        })
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Data(protocol) | Self::Reader(protocol) | Self::Buffered(protocol) => {
                visit.call(protocol)
            }
            Self::Tls(tls) => visit.call(tls),
            Self::None => Ok(()),
        }
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Data(protocol) => Self::Data(protocol.clone_ref(py)),
            Self::Reader(protocol) => Self::Reader(protocol.clone_ref(py)),
            Self::Buffered(protocol) => Self::Buffered(protocol.clone_ref(py)),
            Self::Tls(tls) => Self::Tls(tls.clone_ref(py)),
            Self::None => Self::None,
        }
    }

    /// The protocol, and which of its methods is called first.
    pub(super) fn method(&self) -> Option<(&Py<PyAny>, &'static str)> {
        match self {
            Self::Data(protocol) | Self::Reader(protocol) => Some((protocol, "data_received")),
            Self::Buffered(protocol) => Some((protocol, "get_buffer")),
            Self::Tls(_) | Self::None => None,
        }
    }
}
