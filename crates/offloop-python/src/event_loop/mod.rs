//! The event loop: what asyncio does for every callback, timer and packet, in Rust.
//!
//! `LoopCore` is the base class of `offloop.EventLoop`, whose other base is the standard library's
//! own loop. What happens at most once for each connection is the standard library's code: so every
//! keyword, every error text and every Python version's own behaviour is there. What happens for
//! each callback or packet is ours, and `LoopCore` comes first in the order of the bases. What can
//! be decided without Python is decided in `offloop-core/src/event_loop/`.
//!
//! Shape:      floors: each knows those below it, and none above. `ground/` cells, trampolines,
//!             views · `handle/` callbacks that wait · `port/` what the floors above may use of a
//!             loop · `streams/` connections · `tls/` encrypted ones, `sock.rs` calls on the
//!             program's own sockets, `child/` child processes and pipes · `round/` the loop
//!             itself. `tests/tidy/test_floors.py` has the table, and checks it.
//! Source:     asyncio/base_events.py and selector_events.py; docs/design/007-loop.md.

mod child;
mod ground;
mod handle;
mod port;
mod round;
mod sock;
mod streams;
mod tls;

use offloop_sys::clock::TickScale;
use pyo3::prelude::*;

use child::pipe;
use handle::context;
use round::{LoopCore, calls, create_task, lent, makers, overrides};
use streams::stream::Stream;
use streams::{receiver, transport_calls};

pub(crate) use ground::errors::{heard, os_error};
pub(crate) use round::{Looked, NextRound, TaskEnds};

/// Remembers the methods of the standard loop, before the program replaces one. Python calls it
/// once it has made the class of the loop: workers have the extension too, but not asyncio.
#[pyfunction]
fn learn_standard_loop(py: Python<'_>) -> PyResult<()> {
    overrides::learn(&py.get_type::<LoopCore>())
}

/// Finishes the class: its methods in C's calling convention.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    context::learn_layout(module.py())?;
    TickScale::begin();
    module.add_class::<LoopCore>()?;
    module.add_class::<Stream>()?;
    module.add_class::<child::Child>()?;
    module.add_class::<TaskEnds>()?;
    module.add_function(wrap_pyfunction!(pipe::add_pipe_methods, module)?)?;
    module.add_function(wrap_pyfunction!(learn_standard_loop, module)?)?;
    module.add_function(wrap_pyfunction!(makers::remember_makers, module)?)?;
    module.add_function(wrap_pyfunction!(makers::maker_of, module)?)?;
    module.add_function(wrap_pyfunction!(create_task::heard_create_task, module)?)?;
    tls::add_to(module)?;
    module.add_function(wrap_pyfunction!(receiver::register_tls_protocol, module)?)?;
    module.add_function(wrap_pyfunction!(
        transport_calls::add_stream_methods,
        module
    )?)?;
    let class = module.py().get_type::<LoopCore>();
    sock::add_to(&class)?;
    calls::add_to(&class)?;
    lent::learn(module.py())
}
