//! Addresses of connections, in a fraction of the memory of Python's tuples.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

/// What a socket's `getpeername` has returned.
pub(crate) enum Address {
    Internet(SocketAddr),
    /// Of another family, or of a socket class with its own form of addresses, or `None`.
    Other(Py<PyAny>),
}

impl Address {
    /// Packs an address, if `into_object` can make an equal one of it again.
    pub(crate) fn of(address: &Bound<'_, PyAny>) -> Self {
        packed(address).map_or_else(|| Self::Other(address.clone().unbind()), Self::Internet)
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Internet(address) => Self::Internet(*address),
            Self::Other(address) => Self::Other(address.clone_ref(py)),
        }
    }

    /// The address as Python's sockets give it.
    pub(crate) fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Internet(SocketAddr::V4(address)) => {
                (address.ip().to_string(), address.port()).into_py_any(py)
            }
            Self::Internet(SocketAddr::V6(address)) => {
                let (flow, scope) = (address.flowinfo(), address.scope_id());
                (address.ip().to_string(), address.port(), flow, scope).into_py_any(py)
            }
            Self::Other(address) => Ok(address),
        }
    }
}

/// `(host, port)` or `(host, port, flow, scope)`, if all of it is what the standard library gives.
fn packed(address: &Bound<'_, PyAny>) -> Option<SocketAddr> {
    let tuple = address.cast_exact::<PyTuple>().ok()?;
    let host = tuple.get_item(0).ok()?.cast_into_exact::<PyString>().ok()?;
    let host = host.to_str().ok()?;
    let ip: IpAddr = host.parse().ok()?;
    let number = |index| tuple.get_item(index).ok()?.extract::<u32>().ok();
    let port = u16::try_from(number(1)?).ok()?;
    let packed = match (ip, tuple.len()) {
        (IpAddr::V4(_), 2) => SocketAddr::new(ip, port),
        (IpAddr::V6(ip), 4) => SocketAddrV6::new(ip, port, number(2)?, number(3)?).into(),
        _ => return None,
    };
    (packed.ip().to_string() == host).then_some(packed)
}
