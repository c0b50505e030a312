//! Child processes: started as `subprocess.Popen` would, watched and signalled by a descriptor.
//!
//! `Popen` itself checks its arguments and makes the pipes. The step after that, `_execute_child`,
//! is done here, for all arguments but those that run code in the child or change its user. An
//! unusual call is refused with `None` before anything was done, and the standard code makes it.
//!
//! Invariants: the descriptor is open until the status has been taken, so that a signal cannot
//!             reach another process that got the pid since.
//! Errors:     those of `Popen`: what the system answered, and the file that it was about.
//! Threads:    the loop's; a signal may be sent from any.
//! Source:     subprocess.py and _posixsubprocess.c of 3.11 to 3.15.

pub(crate) mod pipe;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use offloop_sys::process::{self, ExitStatus};
use offloop_sys::spawn::{self, Order, SpawnError, Step, is_no_child};
use pyo3::exceptions::{PyChildProcessError, PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use super::ground::cell::GilCell;
use super::ground::errors::os_error;

/// A child process.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct Child {
    pid: i32,
    /// `None` once the status has been taken.
    pidfd: GilCell<Option<OwnedFd>>,
}

#[pymethods]
impl Child {
    /// Starts what the arguments of `Popen._execute_child` say, or returns `None` if that is
    /// unusual.
    #[staticmethod]
    fn start(arguments: &Bound<'_, PyDict>) -> PyResult<Option<Self>> {
        let given = Given(arguments);
        if !spawn::is_supported() || !given.is_usual()? {
            return Ok(None);
        }
        let Some(mut order) = given.simple_parts()? else {
            return Ok(None);
        };
        let Some(command) = given.command()? else {
            return Ok(None);
        };
        given.audit(&command)?;
        order.arguments = paths(command.words.iter())?;
        order.programs = programs(&command.executable, &given.get("env")?)?;
        order.environment = environment(&given.get("env")?)?;
        let directory = given.get("cwd")?;
        order.directory = if directory.is_none() {
            None
        } else {
            Some(path(&directory)?)
        };
        match spawn::spawn(&order) {
            Ok(child) => Ok(Some(Self {
                pid: child.pid,
                pidfd: GilCell::new(Some(child.pidfd)),
            })),
            // Nothing was done, and the standard code starts the child. Audit hooks hear of this
            // start twice; later starts are refused before `audit`.
            Err(error) if error.is_refusal() => Ok(None),
            Err(error) => Err(start_error(error, &command.executable, &directory)?),
        }
    }

    /// Watches a child that other code has started.
    #[staticmethod]
    fn watch(pid: i32) -> PyResult<Self> {
        let pidfd = process::open_pidfd(pid).map_err(os_error)?;
        Ok(Self {
            pid,
            pidfd: GilCell::new(Some(pidfd)),
        })
    }

    /// Whether children can be watched by descriptors on this system.
    #[staticmethod]
    fn can_watch() -> bool {
        spawn::can_watch()
    }

    #[getter]
    fn pid(&self) -> i32 {
        self.pid
    }

    /// The descriptor that is readable when the child has ended; -1 when its status was taken.
    fn fileno(&self, py: Python<'_>) -> i32 {
        self.pidfd
            .with(py, |pidfd| pidfd.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }

    /// Takes the status of the child and closes the descriptor; `None` while it runs. Raises
    /// `ChildProcessError` if other code has taken the status.
    fn take_status(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        let ended = self.pidfd.with(py, |slot| {
            let Some(pidfd) = slot else {
                return Ok(None);
            };
            let ended = spawn::try_reap(pidfd.as_fd());
            if !matches!(ended, Ok(None)) {
                *slot = None;
            }
            ended
        });
        match ended {
            Ok(Some(ExitStatus::Code(code))) => Ok(Some(code)),
            Ok(Some(ExitStatus::Signal(signal))) => Ok(Some(-signal)),
            Ok(None) => Ok(None),
            Err(error) if is_no_child(&error) => {
                let text = "the status of the child was taken already";
                Err(PyChildProcessError::new_err(text))
            }
            Err(error) => Err(os_error(error)),
        }
    }

    /// Sends a signal, unless the child has ended.
    fn send_signal(&self, py: Python<'_>, signal: i32) -> PyResult<()> {
        let sent = self.pidfd.with(py, |pidfd| match pidfd {
            Some(pidfd) => process::signal(pidfd.as_fd(), signal),
            None => Ok(()),
        });
        sent.map_err(os_error)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let fd = self.fileno(py);
        format!("<Child pid={} fd={fd}>", self.pid)
    }
}

/// The arguments of `_execute_child`, by name.
struct Given<'a, 'py>(&'a Bound<'py, PyDict>);

/// What is to be executed: the words of the command, and the program.
struct Command<'py> {
    words: Bound<'py, PyList>,
    executable: Bound<'py, PyAny>,
}

impl<'py> Given<'_, 'py> {
    fn get(&self, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.0.as_any().get_item(name)
    }

    /// Whether the child runs no code of the program's, and its user stays ours.
    fn is_usual(&self) -> PyResult<bool> {
        for name in ["preexec_fn", "gid", "gids", "uid"] {
            if !self.get(name)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn flag(&self, name: &str) -> PyResult<bool> {
        self.get(name)?.is_truthy()
    }

    /// A number; -1 stands for none. Other numbers below zero, and other types, are left to the
    /// standard code, which has its own texts for them.
    fn number(&self, name: &str) -> PyResult<Result<Option<i32>, Unusual>> {
        Ok(match self.get(name)?.extract::<i32>() {
            Ok(-1) => Ok(None),
            Ok(number) if number >= 0 => Ok(Some(number)),
            _ => Err(Unusual),
        })
    }

    /// The parts of an order that need no conversion of texts.
    fn simple_parts(&self) -> PyResult<Option<Order>> {
        let (Ok(input), Ok(output), Ok(error)) = (
            self.number("p2cread")?,
            self.number("c2pwrite")?,
            self.number("errwrite")?,
        ) else {
            return Ok(None);
        };
        let (Ok(process_group), Ok(umask), Some(inherited)) = (
            self.number("process_group")?,
            self.number("umask")?,
            self.inherited()?,
        ) else {
            return Ok(None);
        };
        Ok(Some(Order {
            standard: [input, output, error],
            inherited,
            close_others: self.flag("close_fds")?,
            restore_signals: self.flag("restore_signals")?,
            new_session: self.flag("start_new_session")?,
            process_group,
            umask: umask.map(i32::unsigned_abs),
            ..Order::default()
        }))
    }

    /// The descriptors of `pass_fds`, in ascending order.
    fn inherited(&self) -> PyResult<Option<Vec<i32>>> {
        let mut inherited = Vec::new();
        for fd in self.get("pass_fds")?.try_iter()? {
            match fd?.extract::<i32>() {
                Ok(fd) if fd >= 0 => inherited.push(fd),
                _ => return Ok(None),
            }
        }
        inherited.sort_unstable();
        inherited.dedup();
        Ok(Some(inherited))
    }

    /// The words of the command, with the shell's in front if it is one for the shell.
    fn command(&self) -> PyResult<Option<Command<'py>>> {
        let py = self.0.py();
        let arguments = self.get("args")?;
        let is_text = |object: &Bound<'_, PyAny>| {
            object.is_instance_of::<PyString>() || object.is_instance_of::<PyBytes>()
        };
        let words = if is_text(&arguments) {
            PyList::new(py, [&arguments])?
        } else if let Ok(tuple) = arguments.cast::<PyTuple>() {
            tuple.to_list()
        } else if let Ok(list) = arguments.cast::<PyList>() {
            list.as_sequence().to_list()?
        } else {
            return Ok(None);
        };
        let mut executable = self.get("executable")?;
        if self.flag("shell")? {
            words.insert(0, "-c")?;
            words.insert(0, "/bin/sh")?;
            if executable.is_truthy()? {
                words.set_item(0, &executable)?;
            }
        }
        if executable.is_none() {
            if words.is_empty() {
                return Ok(None);
            }
            executable = words.get_item(0)?;
        }
        Ok(Some(Command { words, executable }))
    }

    /// Tells audit hooks which program is about to be started; a hook may forbid it.
    fn audit(&self, command: &Command<'py>) -> PyResult<()> {
        let py = self.0.py();
        let event = (
            "subprocess.Popen",
            &command.executable,
            &command.words,
            self.get("cwd")?,
            self.get("env")?,
        );
        py.import(intern!(py, "sys"))?
            .call_method1(intern!(py, "audit"), event)?;
        Ok(())
    }
}

/// An argument that the standard code is to judge.
struct Unusual;

/// The bytes of a path or a text, as the file system has them.
fn path(object: &Bound<'_, PyAny>) -> PyResult<CString> {
    let py = object.py();
    let mut converted: *mut ffi::PyObject = std::ptr::null_mut();
    // SAFETY: *attached*; the converter stores a new reference to bytes where the pointer says, or
    // sets an error and returns zero.
    let bytes = unsafe {
        if ffi::PyUnicode_FSConverter(object.as_ptr(), (&raw mut converted).cast()) == 0 {
            return Err(PyErr::fetch(py));
        }
        Bound::from_owned_ptr(py, converted).cast_into_unchecked::<PyBytes>()
    };
    text(bytes.as_bytes().to_vec())
}

fn text(bytes: Vec<u8>) -> PyResult<CString> {
    CString::new(bytes).map_err(|_| PyValueError::new_err("embedded null byte"))
}

fn paths<'py>(objects: impl Iterator<Item = Bound<'py, PyAny>>) -> PyResult<Vec<CString>> {
    objects.map(|object| path(&object)).collect()
}

/// The paths at which the program may be: its own, or one in each directory of the search path.
fn programs(executable: &Bound<'_, PyAny>, env: &Bound<'_, PyAny>) -> PyResult<Vec<CString>> {
    let py = executable.py();
    let name = path(executable)?;
    if name.as_bytes().contains(&b'/') {
        return Ok(vec![name]);
    }
    let directories = py
        .import(intern!(py, "os"))?
        .call_method1(intern!(py, "get_exec_path"), (env,))?;
    let mut programs = Vec::new();
    for directory in directories.try_iter()? {
        let mut program = path(&directory?)?.into_bytes();
        if program.last().is_some_and(|&last| last != b'/') {
            program.push(b'/');
        }
        program.extend_from_slice(name.as_bytes());
        programs.push(text(program)?);
    }
    Ok(programs)
}

/// `NAME=value` for each variable; `None` when the child gets ours.
fn environment(env: &Bound<'_, PyAny>) -> PyResult<Option<Vec<CString>>> {
    if env.is_none() {
        return Ok(None);
    }
    let mut variables = Vec::new();
    for item in env.call_method0(intern!(env.py(), "items"))?.try_iter()? {
        let (name, value) = item?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        let mut variable = path(&name)?.into_bytes();
        if variable.contains(&b'=') {
            return Err(PyValueError::new_err("illegal environment variable name"));
        }
        variable.push(b'=');
        variable.extend_from_slice(path(&value)?.as_bytes());
        variables.push(text(variable)?);
    }
    Ok(Some(variables))
}

/// The exception of a failed start, with the file that it is about.
fn start_error(
    error: SpawnError,
    executable: &Bound<'_, PyAny>,
    directory: &Bound<'_, PyAny>,
) -> PyResult<PyErr> {
    let py = executable.py();
    let plain = os_error(error.source);
    let file = match error.step {
        Step::Birth | Step::Preparation => return Ok(plain),
        Step::Directory => directory,
        Step::Program => executable,
    };
    // The class of the exception follows from the number.
    let value = plain.value(py);
    let arguments = (
        value.getattr(intern!(py, "errno"))?,
        value.getattr(intern!(py, "strerror"))?,
        file,
    );
    let exception = py.get_type::<PyOSError>().call1(arguments)?;
    Ok(PyErr::from_value(exception))
}
