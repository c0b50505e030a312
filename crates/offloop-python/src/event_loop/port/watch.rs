//! Descriptors, and the handles that wait for them.
//!
//! The kernel is told of a change at once, and only of changes. Who watches a number that is no
//! descriptor any more gets the system's error; whoever forgets one gets none.
//!
//! A program names a descriptor by its number or by a file object. The object that it gave is kept,
//! as in Python's selectors: a socket that was closed meanwhile has no number any more, and is
//! found by what it is. Once another socket with its number is watched, the closed one is out of
//! use, with all who waited for it: they would be called for the other one.
//!
//! Invariants: 1. `files` has one only while a handle of the program's waits.
//!             2. What leaves the table is cancelled and dropped outside of the state.
//! Source:     selectors.py (`_fileobj_lookup`), asyncio/selector_events.py, epoll(7).

use std::collections::HashMap;

use offloop_sys::readiness::{Interest, Readiness};
use pyo3::exceptions::{
    PyAttributeError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};
use pyo3::{ffi, intern};

use super::super::ground::errors::os_error;
use super::super::handle::{Callback, Handle};
use super::LoopPort;
use super::schedule::Entry;
use super::wait::Wait;

/// What a descriptor is watched for.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Reader,
    Writer,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Reader => Self::Writer,
            Self::Writer => Self::Reader,
        }
    }
}

/// Who is told that a descriptor is ready.
enum Watcher {
    /// A callback of the program's, or of the standard library's.
    Handle(Handle),
    /// A stream, which reads or writes by itself.
    Stream(Py<PyAny>),
    /// A call on a socket, which waits once.
    Wait(Box<Wait>),
}

impl Watcher {
    fn to_object(&self, py: Python<'_>) -> Py<PyAny> {
        match self {
            Self::Handle(handle) => handle.to_object(py),
            Self::Stream(stream) => stream.clone_ref(py),
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

    /// The kernel has been told of a change. If it refused, nobody waits here any more.
    fn settle(&mut self, told: std::io::Result<()>, gone: &mut Gone) -> std::io::Result<()> {
        if told.is_err() {
            let watch = std::mem::take(self);
            gone.others = [watch.reader, watch.writer];
        }
        self.dormant = false;
        told
    }

    fn has_handle(&self) -> bool {
        matches!(self.reader, Some(Watcher::Handle(_)))
            || matches!(self.writer, Some(Watcher::Handle(_)))
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

/// One side of a descriptor, and who waits there from now on.
struct Change {
    side: Side,
    watcher: Option<Watcher>,
    /// By what the program named the descriptor.
    file: Option<Py<PyAny>>,
    target: Target,
}

/// What stands behind a number that the table may have an entry for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// What is watched, or nobody knows otherwise.
    Same,
    /// Another descriptor than the one that is watched, whose file object was closed.
    New,
    /// Nothing, or what the program does not mean: it has named a file object that was closed.
    Closed,
}

/// What a change has put out of use.
#[derive(Default)]
struct Gone {
    /// Of the side that was to be changed.
    watcher: Option<Watcher>,
    /// Others, who waited for a descriptor that was closed.
    others: [Option<Watcher>; 2],
    files: Vec<Py<PyAny>>,
}

/// Why a change was refused, and what has gone with that.
type Refused = (std::io::Error, Gone);

/// By descriptor.
#[derive(Default)]
pub(crate) struct Watches {
    table: Vec<Watch>,
    /// How many descriptors are watched, for whatever.
    count: usize,
    /// What the program gave in place of a number.
    files: HashMap<i32, Py<PyAny>>,
    /// Closed file objects whose number is watched for another one; one for each number at most.
    displaced: Vec<(i32, Py<PyAny>)>,
}

impl Watches {
    /// Sets or clears one side; returns what was there before, for the caller to cancel. With an
    /// error come the watchers that have gone, for the caller to drop: the one that was refused, or
    /// both of a descriptor that was closed before it was forgotten.
    fn exchange(
        &mut self,
        readiness: &Readiness,
        fd: i32,
        change: Change,
    ) -> Result<Gone, Refused> {
        let before = self.is_watched(fd);
        let outcome = self.exchange_uncounted(readiness, fd, change);
        self.recount(fd, before);
        outcome
    }

    fn is_watched(&self, fd: i32) -> bool {
        let index = usize::try_from(fd).ok();
        let watch = index.and_then(|index| self.table.get(index));
        watch.is_some_and(|watch| !watch.interest().is_none())
    }

    /// Counts a descriptor that was watched before, or was not.
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
        change: Change,
    ) -> Result<Gone, Refused> {
        let Ok(index) = usize::try_from(fd) else {
            let mut gone = Gone::default();
            gone.others[0] = change.watcher;
            return Err((std::io::ErrorKind::InvalidInput.into(), gone));
        };
        let mut gone = Gone::default();
        if change.target == Target::New {
            self.displace(fd, &mut gone);
        }
        let result = if change.watcher.is_none() {
            self.clear(readiness, index, change.side, &mut gone)
        } else {
            self.put(readiness, index, change, &mut gone)
        };
        let has_files = !self.files.is_empty() || !self.displaced.is_empty();
        if has_files
            && let Some(watch) = self.table.get(index)
            && !watch.has_handle()
        {
            gone.files.extend(self.files.remove(&fd));
            let displaced = self.take_displaced(|other, _| other == fd);
            gone.files.extend(displaced);
        }
        match result {
            Ok(()) => Ok(gone),
            Err(error) => Err((error, gone)),
        }
    }

    /// Puts everybody out of use who waited for the closed file object that had the number before.
    fn displace(&mut self, fd: i32, gone: &mut Gone) {
        let index = usize::try_from(fd).ok();
        let Some(watch) = index.and_then(|index| self.table.get_mut(index)) else {
            return;
        };
        let watch = std::mem::take(watch);
        gone.others = [watch.reader, watch.writer];
        let displaced = self.take_displaced(|other, _| other == fd);
        gone.files.extend(displaced);
        let file = self.files.remove(&fd);
        self.displaced.extend(file.map(|file| (fd, file)));
    }

    fn take_displaced(&mut self, is_it: impl Fn(i32, &Py<PyAny>) -> bool) -> Option<Py<PyAny>> {
        let has_it = |(fd, file): &(i32, Py<PyAny>)| is_it(*fd, file);
        let index = self.displaced.iter().position(has_it)?;
        Some(self.displaced.swap_remove(index).1)
    }

    fn put(
        &mut self,
        readiness: &Readiness,
        index: usize,
        change: Change,
        gone: &mut Gone,
    ) -> std::io::Result<()> {
        let fd = i32::try_from(index).unwrap_or(-1);
        let Change {
            side,
            watcher,
            mut file,
            target,
        } = change;
        if index >= self.table.len() {
            let mut watch = Watch::default();
            *watch.side(side) = watcher;
            // Asked first: a wrong number may be a great one.
            if let Err(error) = readiness.change(fd, Interest::NONE, watch.interest()) {
                gone.others = [watch.reader, watch.writer];
                return Err(error);
            }
            if let Some(file) = file {
                self.files.insert(fd, file);
            }
            self.table.resize_with(index, Watch::default);
            self.table.push(watch);
            return Ok(());
        }
        let watch = &mut self.table[index];
        let before = watch.known();
        // By what the program has named it first it is known.
        if !watch.has_handle()
            && let Some(file) = file.take()
        {
            self.files.insert(fd, file);
        }
        gone.watcher = std::mem::replace(watch.side(side), watcher);
        let after = watch.interest();
        let told = if before.is_none() {
            readiness.change(fd, before, after)
        } else if target == Target::Closed && before == after {
            Ok(())
        } else {
            // A handle that replaces another tells the kernel again: the number may mean a new
            // descriptor by now.
            match readiness.modify(fd, after) {
                Err(error) if target == Target::Closed => Err(error),
                Err(error) if is_unknown(&error) => {
                    // It does, and who waits at the other side waits for the old one.
                    gone.others[0] = watch.side(side.other()).take();
                    if let Some(file) = file.take() {
                        gone.files.extend(self.files.insert(fd, file));
                    }
                    readiness.change(fd, Interest::NONE, watch.interest())
                }
                // A number that is closed may be watched for as much as before, as in Python's
                // selectors, which do not ask the kernel.
                Err(error) if is_closed(&error) && before == after => Ok(()),
                result => result,
            }
        };
        watch.settle(told, gone)
    }

    fn clear(
        &mut self,
        readiness: &Readiness,
        index: usize,
        side: Side,
        gone: &mut Gone,
    ) -> std::io::Result<()> {
        let Some(watch) = self.table.get_mut(index) else {
            return Ok(());
        };
        let before = watch.known();
        gone.watcher = watch.side(side).take();
        let after = watch.interest();
        if before != after && !(watch.dormant && after.is_none()) {
            let fd = i32::try_from(index).unwrap_or(-1);
            let told = if after.is_none() {
                readiness.forget(fd)
            } else {
                readiness.modify(fd, after)
            };
            return watch.settle(told, gone);
        }
        Ok(())
    }

    /// The number under which a file object is watched that has none any more.
    fn find_file(&self, file: &Bound<'_, PyAny>) -> Option<i32> {
        let found = self.files.iter().filter(|(_, held)| held.is(file));
        found.map(|(fd, _)| *fd).min()
    }

    /// What the program named a watched descriptor by.
    fn file_at<'py>(&self, py: Python<'py>, fd: i32) -> Option<Bound<'py, PyAny>> {
        Some(self.files.get(&fd)?.bind(py).clone())
    }

    /// Queues whoever waits for what `fd` is ready for. False when nobody is there: it was closed,
    /// and what it has meant is still open under another number, or in a child.
    pub(crate) fn collect(
        &mut self,
        py: Python<'_>,
        readiness: &Readiness,
        fd: i32,
        ready: Interest,
        queue: &mut dyn FnMut(Entry),
    ) -> bool {
        let watch = usize::try_from(fd)
            .ok()
            .and_then(|index| self.table.get_mut(index));
        let Some(watch) = watch.filter(|watch| !watch.known().is_none()) else {
            return false;
        };
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
            watch.dormant = left.is_none() || readiness.modify(fd, left).is_err();
            // It was watched, and a wait is over with that.
            self.recount(fd, true);
        }
        true
    }

    /// Has the kernel forget everything, and tells it anew of what is watched.
    pub(crate) fn renew(&mut self, readiness: &Readiness) -> std::io::Result<()> {
        readiness.renew()?;
        for (fd, watch) in (0..).zip(&mut self.table) {
            watch.dormant = false;
            let interest = watch.interest();
            if interest.is_none() {
                continue;
            }
            match readiness.change(fd, Interest::NONE, interest) {
                // Closed, and not forgotten yet: the kernel told nothing of it before either.
                Err(error) if is_closed(&error) => {}
                result => result?,
            }
        }
        Ok(())
    }

    pub(crate) fn handles(
        &self,
        py: Python<'_>,
        fd: i32,
    ) -> (Option<Py<PyAny>>, Option<Py<PyAny>>) {
        let index = usize::try_from(fd).ok();
        let watch = index.and_then(|index| self.table.get(index));
        let object = |watcher: &Watcher| watcher.to_object(py);
        watch.map_or((None, None), |watch| {
            (
                watch.reader.as_ref().map(object),
                watch.writer.as_ref().map(object),
            )
        })
    }

    /// How many descriptors are watched, for whatever.
    pub(crate) fn len(&self) -> usize {
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
            Ok(index) => self.table.get(index).and_then(side),
            Err(_) => self.table.iter().find_map(side),
        }
    }

    pub(crate) fn take_all(&mut self) -> impl Sized + use<> {
        std::mem::take(self)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let displaced = self.displaced.iter().map(|(_, file)| file);
        for file in self.files.values().chain(displaced) {
            visit.call(file)?;
        }
        for watch in &self.table {
            for watcher in watch.reader.iter().chain(&watch.writer) {
                watcher.traverse(visit)?;
            }
        }
        Ok(())
    }
}

/// The kernel does not know the descriptor.
fn is_unknown(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// The number is that of no descriptor.
fn is_closed(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(offloop_sys::stream::BAD_DESCRIPTOR)
}

/// What is to be called, its arguments, and the context if the caller names one.
type Called<'a, 'py> = (
    &'a Bound<'py, PyAny>,
    &'a Bound<'py, PyTuple>,
    Option<&'a Bound<'py, PyAny>>,
);

/// `add_reader` and `add_writer`: the handle that was there before is cancelled.
pub(crate) fn add(
    event_loop: &Bound<'_, LoopPort>,
    file: &Bound<'_, PyAny>,
    side: Side,
    (callback, args, context): Called<'_, '_>,
) -> PyResult<Py<PyAny>> {
    let py = event_loop.py();
    let core = event_loop.get();
    core.check_closed(py)?;
    let (fd, closed) = match descriptor(file) {
        Ok(fd) => (narrow(fd)?, false),
        Err(error) => (closed_file(core, file, error)?, true),
    };
    let items: Vec<_> = std::iter::once(callback.as_ptr())
        .chain(args.iter_borrowed().map(|item| item.as_ptr()))
        .collect();
    let handle = Handle::new(
        py,
        &Callback {
            items: &items,
            context: context.map_or(std::ptr::null_mut(), Bound::as_ptr),
            event_loop: event_loop.as_ptr(),
        },
        None,
    )?;
    handle.set_repeats();
    let object = handle.to_object(py);
    let change = Change {
        side,
        watcher: Some(Watcher::Handle(handle)),
        file: (!file.is_instance_of::<PyInt>()).then(|| file.clone().unbind()),
        target: if closed {
            Target::Closed
        } else {
            target(core, fd, Some(file), py)
        },
    };
    set(core, py, fd, change)?;
    Ok(object)
}

/// Waits once until a socket can go on.
pub(crate) fn add_wait(
    core: &LoopPort,
    py: Python<'_>,
    side: Side,
    wait: Box<Wait>,
) -> PyResult<()> {
    core.check_closed(py)?;
    let fd = wait.fd();
    let change = Change {
        side,
        watcher: Some(Watcher::Wait(wait)),
        file: None,
        target: target(core, fd, None, py),
    };
    set(core, py, fd, change).map(drop)
}

/// Gives up the wait that `future` stands for, if it still lasts.
pub(crate) fn remove_wait(core: &LoopPort, py: Python<'_>, fd: i32, future: &Bound<'_, PyAny>) {
    let old = core.state.with(py, |state| {
        let (fd, side) = state.watches.find_wait(fd, future)?;
        let kernel = state.kernel.as_ref()?;
        let change = Change::nobody(side);
        Some(state.watches.exchange(&kernel.readiness, fd, change))
    });
    drop(old);
}

/// Watches the descriptor of a stream for one of its sides.
pub(crate) fn add_stream(
    core: &LoopPort,
    stream: &Bound<'_, PyAny>,
    fd: i32,
    side: Side,
) -> PyResult<()> {
    let py = stream.py();
    core.check_closed(py)?;
    let change = Change {
        side,
        watcher: Some(Watcher::Stream(stream.clone().unbind())),
        file: None,
        target: target(core, fd, None, py),
    };
    set(core, py, fd, change).map(drop)
}

/// Watches one side of a stream no more.
pub(crate) fn remove_stream(core: &LoopPort, py: Python<'_>, fd: i32, side: Side) -> PyResult<()> {
    if !core.is_closed(py) {
        set(core, py, fd, Change::nobody(side))?;
    }
    Ok(())
}

impl Change {
    /// Nobody waits there any more.
    fn nobody(side: Side) -> Self {
        Self {
            side,
            watcher: None,
            file: None,
            target: Target::Same,
        }
    }
}

/// Whether an open `fd` is still what it was when it was first watched: the file object that the
/// program gave then says so, unless it is the one that is given now.
fn target(core: &LoopPort, fd: i32, given: Option<&Bound<'_, PyAny>>, py: Python<'_>) -> Target {
    let Some(file) = core.state.with(py, |state| state.watches.file_at(py, fd)) else {
        return Target::Same;
    };
    if given.is_some_and(|given| given.is(&file)) {
        return Target::Same;
    }
    match descriptor(&file) {
        Ok(number) if number == i64::from(fd) => Target::Same,
        // It has another number or none, or cannot say.
        _ => Target::New,
    }
}

/// Exchanges a watcher and cancels the old one; whether there was one.
fn set(core: &LoopPort, py: Python<'_>, fd: i32, change: Change) -> PyResult<bool> {
    let outcome = core.state.with(py, |state| {
        let kernel = state.kernel.as_ref()?;
        Some(state.watches.exchange(&kernel.readiness, fd, change))
    });
    let Some(outcome) = outcome else {
        return Err(PyRuntimeError::new_err("Event loop is closed"));
    };
    let gone = outcome.map_err(|(error, _gone)| os_error(error))?;
    let found = gone.watcher.is_some();
    for watcher in gone.others.into_iter().chain([gone.watcher]).flatten() {
        if let Watcher::Handle(handle) = watcher {
            let object = handle.to_object(py);
            object.bind(py).call_method0(intern!(py, "cancel"))?;
        }
    }
    Ok(found)
}

/// `remove_reader` and `remove_writer`: whether there was one.
pub(crate) fn remove(
    event_loop: &Bound<'_, LoopPort>,
    file: &Bound<'_, PyAny>,
    side: Side,
) -> PyResult<bool> {
    let py = event_loop.py();
    let core = event_loop.get();
    if core.is_closed(py) {
        return Ok(false);
    }
    let fd = match descriptor(file) {
        Ok(fd) => narrow(fd).ok(),
        Err(error) => {
            let displaced = core.state.with(py, |state| {
                state.watches.take_displaced(|_, held| held.is(file))
            });
            if displaced.is_some() {
                // Nobody has waited for it since another one got its number.
                return Ok(false);
            }
            Some(closed_file(core, file, error)?)
        }
    };
    // No number as large is watched.
    fd.map_or(Ok(false), |fd| set(core, py, fd, Change::nobody(side)))
}

/// The number under which a closed file object is watched, or the error that it has none.
fn closed_file(core: &LoopPort, file: &Bound<'_, PyAny>, error: PyErr) -> PyResult<i32> {
    let py = file.py();
    if !error.is_instance_of::<PyValueError>(py) {
        return Err(error);
    }
    let found = core.state.with(py, |state| state.watches.find_file(file));
    found.ok_or(error)
}

/// A number, or the number of something with `fileno()`; the errors are those of `selectors`.
fn descriptor(object: &Bound<'_, PyAny>) -> PyResult<i64> {
    let py = object.py();
    let number = if object.is_instance_of::<PyInt>() {
        object.clone()
    } else {
        let number = object
            .call_method0(intern!(py, "fileno"))
            .and_then(|number| {
                // SAFETY: attached, a live object; a new reference or an error.
                unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyNumber_Long(number.as_ptr())) }
            });
        number.map_err(|error| {
            let is_refusal = error.is_instance_of::<PyAttributeError>(py)
                || error.is_instance_of::<PyTypeError>(py)
                || error.is_instance_of::<PyValueError>(py);
            if is_refusal {
                PyValueError::new_err(format!("Invalid file object: {object:?}"))
            } else {
                error
            }
        })?
    };
    if number.lt(0)? {
        let text = format!("Invalid file descriptor: {number}");
        return Err(PyValueError::new_err(text));
    }
    Ok(number.extract().unwrap_or(i64::MAX))
}

/// The number as the system takes it.
fn narrow(fd: i64) -> PyResult<i32> {
    let text = "Python int too large to convert to C int";
    i32::try_from(fd).map_err(|_| PyOverflowError::new_err(text))
}
