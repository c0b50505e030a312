//! Descriptors, and the handles that wait for them.
//!
//! The kernel is told of a change at once, and only of changes. Who watches a number that is no
//! descriptor any more gets the system's error; whoever forgets one gets none.

use offloop_sys::readiness::{Interest, Readiness};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::handle::{Callback, Handle};
use super::schedule::Entry;
use super::sock::Wait;
use super::stream::Stream;
use super::{LoopCore, os_error};

/// What a descriptor is watched for.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Reader,
    Writer,
}

/// Who is told that a descriptor is ready.
enum Watcher {
    /// A callback of the program's, or of the standard library's.
    Handle(Handle),
    /// A stream, which reads or writes by itself.
    Stream(Py<Stream>),
    /// A call on a socket, which waits once.
    Wait(Box<Wait>),
}

impl Watcher {
    fn to_object(&self, py: Python<'_>) -> Py<PyAny> {
        match self {
            Self::Handle(handle) => handle.to_object(py),
            Self::Stream(stream) => stream.clone_ref(py).into_any(),
            Self::Wait(wait) => wait.to_object(py),
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Handle(handle) => handle.traverse(visit),
            Self::Stream(stream) => visit.call(stream),
            Self::Wait(wait) => wait.traverse(visit),
        }
    }
}

#[derive(Default)]
struct Watch {
    reader: Option<Watcher>,
    writer: Option<Watcher>,
    /// The kernel knows the descriptor, but reports nothing until it is told again: a wait has
    /// ended.
    dormant: bool,
}

impl Watch {
    fn interest(&self) -> Interest {
        Interest {
            read: self.reader.is_some(),
            write: self.writer.is_some(),
            once: matches!(self.reader, Some(Watcher::Wait(_)))
                || matches!(self.writer, Some(Watcher::Wait(_))),
        }
    }

    /// What the kernel has been told.
    fn known(&self) -> Interest {
        if self.dormant {
            DORMANT
        } else {
            self.interest()
        }
    }

    /// Who is told that one side is ready; a wait is over with that.
    fn entry(&mut self, py: Python<'_>, side: Side) -> Option<Entry> {
        let slot = self.side(side);
        match slot {
            Some(Watcher::Handle(handle)) => Some(Entry::Ours(handle.clone_ref(py))),
            Some(Watcher::Stream(stream)) => Some(Entry::Stream(stream.clone_ref(py), side)),
            Some(Watcher::Wait(_)) => match slot.take() {
                Some(Watcher::Wait(wait)) => Some(Entry::Wait(wait)),
                _ => None,
            },
            None => None,
        }
    }

    fn side(&mut self, side: Side) -> &mut Option<Watcher> {
        match side {
            Side::Reader => &mut self.reader,
            Side::Writer => &mut self.writer,
        }
    }
}

/// Anything but none: the descriptor is known.
const DORMANT: Interest = Interest {
    read: true,
    write: true,
    once: true,
};

/// Why a change was refused, and the watchers that nobody has any more.
type Refused = (std::io::Error, [Option<Watcher>; 2]);

/// By descriptor.
#[derive(Default)]
pub(super) struct Watches {
    watches: Vec<Watch>,
    /// How many descriptors are watched, for whatever.
    count: usize,
}

impl Watches {
    /// Sets or clears one side; returns what was there before, for the caller to cancel. With an
    /// error come the watchers that have gone, for the caller to drop: the one that was refused, or
    /// both of a descriptor that was closed before it was forgotten.
    fn exchange(
        &mut self,
        readiness: &Readiness,
        fd: i32,
        side: Side,
        watcher: Option<Watcher>,
    ) -> Result<Option<Watcher>, Refused> {
        let before = self.is_watched(fd);
        let outcome = self.exchange_uncounted(readiness, fd, side, watcher);
        self.recount(fd, before);
        outcome
    }

    fn is_watched(&self, fd: i32) -> bool {
        let index = usize::try_from(fd).ok();
        let watch = index.and_then(|index| self.watches.get(index));
        watch.is_some_and(|watch| !watch.interest().is_none())
    }

    fn recount(&mut self, fd: i32, before: bool) {
        match (before, self.is_watched(fd)) {
            (false, true) => self.count += 1,
            (true, false) => self.count -= 1,
            _ => {}
        }
    }

    fn exchange_uncounted(
        &mut self,
        readiness: &Readiness,
        fd: i32,
        side: Side,
        watcher: Option<Watcher>,
    ) -> Result<Option<Watcher>, Refused> {
        let Ok(index) = usize::try_from(fd) else {
            return Err((std::io::ErrorKind::InvalidInput.into(), [watcher, None]));
        };
        if index >= self.watches.len() {
            if watcher.is_none() {
                return Ok(None);
            }
            let mut watch = Watch::default();
            *watch.side(side) = watcher;
            // Asked first: a wrong number may be a great one.
            if let Err(error) = readiness.change(fd, Interest::NONE, watch.interest()) {
                return Err((error, [watch.reader, watch.writer]));
            }
            self.watches.resize_with(index, Watch::default);
            self.watches.push(watch);
            return Ok(None);
        }
        let watch = &mut self.watches[index];
        let before = watch.known();
        let adds = watcher.is_some();
        let old = std::mem::replace(watch.side(side), watcher);
        let after = watch.interest();
        if adds {
            // A handle that replaces another tells the kernel again: the number may mean a new
            // descriptor by now.
            if let Err(error) = readiness.change(fd, before, after) {
                let refused = std::mem::replace(watch.side(side), old);
                return Err((error, [refused, None]));
            }
            watch.dormant = false;
        } else if before != after && !(watch.dormant && after.is_none()) {
            if let Err(error) = readiness.reduce(fd, after) {
                let gone = std::mem::take(watch);
                return Err((error, [gone.reader.or(gone.writer), old]));
            }
            watch.dormant = false;
        }
        Ok(old)
    }

    /// Queues whoever waits for what `fd` is ready for.
    pub(super) fn collect(
        &mut self,
        py: Python<'_>,
        readiness: &Readiness,
        fd: i32,
        ready: Interest,
        queue: &mut dyn FnMut(Entry),
    ) {
        let watch = usize::try_from(fd)
            .ok()
            .and_then(|index| self.watches.get_mut(index));
        let Some(watch) = watch else { return };
        let once = watch.interest().once;
        if ready.read {
            watch
                .entry(py, Side::Reader)
                .into_iter()
                .for_each(&mut *queue);
        }
        if ready.write {
            watch.entry(py, Side::Writer).into_iter().for_each(queue);
        }
        if once {
            let left = watch.interest();
            // An error means that the descriptor was closed: nobody will be told anything.
            watch.dormant = left.is_none() || readiness.reduce(fd, left).is_err();
            // It was watched, and a wait is over with that.
            self.recount(fd, true);
        }
    }

    pub(super) fn handles(
        &self,
        py: Python<'_>,
        fd: i32,
    ) -> (Option<Py<PyAny>>, Option<Py<PyAny>>) {
        let watch = usize::try_from(fd).ok().and_then(|index| self.watches.get(index));
        let object = |watcher: &Watcher| watcher.to_object(py);
        watch.map_or((None, None), |watch| {
            (
                watch.reader.as_ref().map(object),
                watch.writer.as_ref().map(object),
            )
        })
    }

    /// How many descriptors are watched, for whatever.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Where a wait is: mostly at its descriptor, unless the socket was closed meanwhile.
    fn find_wait(&self, fd: i32, future: &Bound<'_, PyAny>) -> Option<(i32, Side)> {
        let waits = |watcher: &Option<Watcher>| match watcher {
            Some(Watcher::Wait(wait)) if wait.is_for(future) => Some(wait.fd()),
            _ => None,
        };
        let side = |watch: &Watch| {
            let reader = waits(&watch.reader).map(|fd| (fd, Side::Reader));
            reader.or_else(|| waits(&watch.writer).map(|fd| (fd, Side::Writer)))
        };
        match usize::try_from(fd) {
            Ok(index) => self.watches.get(index).and_then(side),
            Err(_) => self.watches.iter().find_map(side),
        }
    }

    pub(super) fn take_all(&mut self) -> impl Sized + use<> {
        std::mem::take(self)
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for watch in &self.watches {
            for watcher in watch.reader.iter().chain(&watch.writer) {
                watcher.traverse(visit)?;
            }
        }
        Ok(())
    }
}

/// `add_reader` and `add_writer`: the handle that was there before is cancelled.
pub(super) fn add(
    event_loop: &Bound<'_, LoopCore>,
    fd: &Bound<'_, PyAny>,
    side: Side,
    callback: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
) -> PyResult<Py<PyAny>> {
    let py = event_loop.py();
    let core = event_loop.get();
    core._check_closed(py)?;
    let fd = descriptor(fd)?;
    let items: Vec<_> = std::iter::once(callback.as_ptr())
        .chain(args.iter_borrowed().map(|item| item.as_ptr()))
        .collect();
    let handle = Handle::new(
        py,
        &Callback {
            items: &items,
            context: std::ptr::null_mut(),
            event_loop: event_loop.as_ptr(),
        },
        None,
    )?;
    handle.set_repeats();
    let object = handle.to_object(py);
    set(core, py, fd, side, Some(Watcher::Handle(handle)))?;
    Ok(object)
}

/// Waits once until a socket can go on.
pub(super) fn add_wait(
    core: &LoopCore,
    py: Python<'_>,
    side: Side,
    wait: Box<Wait>,
) -> PyResult<()> {
    core._check_closed(py)?;
    set(core, py, wait.fd(), side, Some(Watcher::Wait(wait))).map(drop)
}

/// Gives up the wait that `future` stands for, if it still lasts.
pub(super) fn remove_wait(core: &LoopCore, py: Python<'_>, fd: i32, future: &Bound<'_, PyAny>) {
    let old = core.state.with(py, |state| {
        let (fd, side) = state.watches.find_wait(fd, future)?;
        let kernel = state.kernel.as_ref()?;
        Some(state.watches.exchange(&kernel.readiness, fd, side, None))
    });
    drop(old);
}

/// Watches the descriptor of a stream for one of its sides.
pub(super) fn add_stream(stream: &Bound<'_, Stream>, side: Side) -> PyResult<()> {
    let py = stream.py();
    let watcher = Watcher::Stream(stream.clone().unbind());
    let inner = stream.get();
    let core = inner.event_loop(py).get();
    core._check_closed(py)?;
    set(core, py, inner.watched_fd(), side, Some(watcher)).map(drop)
}

/// Watches one side of a stream no more.
pub(super) fn remove_stream(stream: &Bound<'_, Stream>, side: Side) -> PyResult<()> {
    let py = stream.py();
    let inner = stream.get();
    let core = inner.event_loop(py).get();
    if !core.closed(py) {
        set(core, py, inner.watched_fd(), side, None)?;
    }
    Ok(())
}

/// Exchanges a watcher and cancels the old one; whether there was one.
fn set(
    core: &LoopCore,
    py: Python<'_>,
    fd: i32,
    side: Side,
    watcher: Option<Watcher>,
) -> PyResult<bool> {
    let outcome = core.state.with(py, |state| {
        let kernel = state.kernel.as_ref()?;
        Some(state.watches.exchange(&kernel.readiness, fd, side, watcher))
    });
    let Some(outcome) = outcome else {
        return Err(PyRuntimeError::new_err("Event loop is closed"));
    };
    let old = outcome.map_err(|(error, _gone)| os_error(error))?;
    let found = old.is_some();
    if let Some(Watcher::Handle(handle)) = old {
        let object = handle.to_object(py);
        object.bind(py).call_method0(pyo3::intern!(py, "cancel"))?;
    }
    Ok(found)
}

/// `remove_reader` and `remove_writer`: whether there was one.
pub(super) fn remove(
    event_loop: &Bound<'_, LoopCore>,
    fd: &Bound<'_, PyAny>,
    side: Side,
) -> PyResult<bool> {
    let py = event_loop.py();
    let core = event_loop.get();
    if core.closed(py) {
        return Ok(false);
    }
    set(core, py, descriptor(fd)?, side, None)
}

/// A number, or the number of something with `fileno()`; the errors are those of `selectors`.
fn descriptor(object: &Bound<'_, PyAny>) -> PyResult<i32> {
    let number = match object.extract::<i32>() {
        Ok(number) => number,
        Err(_) => object
            .call_method0(pyo3::intern!(object.py(), "fileno"))
            .and_then(|number| number.extract())
            .map_err(|_| PyValueError::new_err(format!("Invalid file object: {object:?}")))?,
    };
    if number < 0 {
        let text = format!("Invalid file descriptor: {number}");
        return Err(PyValueError::new_err(text));
    }
    Ok(number)
}
