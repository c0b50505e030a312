//! `create_task` of a class of loops that are not ours, heard of.
//!
//! What stands in its place is no function of Python's: the stack that asyncio keeps of a task's
//! making is as without it, and a task costs less.
//!
//! Threads:    any.

use std::ffi::c_uint;
use std::sync::{Mutex, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySuper, PyTuple, PyType, PyWeakrefReference};
use pyo3::{ffi, intern};

use super::super::ground::errors::heard;
use super::foreign_tasks::TaskEnds;
use crate::forsaking;

unsafe extern "C" {
    /// A method bound to an object: what can be called, and `self`.
    ///
    /// Source:     https://docs.python.org/3/c-api/method.html. PyO3 does not declare it.
    fn PyMethod_New(function: *mut ffi::PyObject, this: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// A loop whose tasks are heard of, and what hears of them.
struct Known {
    event_loop: Py<PyWeakrefReference>,
    ends: Py<TaskEnds>,
}

#[pyclass(frozen, module = "_offloop_worker._offloop")]
struct CreateTask {
    class: Py<PyType>,
    /// What the class itself has under the name. A class that has none inherits it.
    own: Option<Py<PyAny>>,
    /// What stood in the place of this: signature, name and text are its.
    #[pyo3(get, name = "__wrapped__")]
    wrapped: Py<PyAny>,
    /// Called with a loop and its new task, unless these are known. Returns what is to hear of the
    /// loop's next ones.
    created: Py<PyAny>,
    /// The loop of the last task.
    known: Mutex<Option<Known>>,
    /// The method of the last loop's class.
    method: Mutex<Option<Method>>,
}

/// What a class of loops has under the name beyond ours: it is called with the loop first.
struct Method {
    class: usize,
    /// The interpreter numbers what a class and its bases have. When that changes, the number is
    /// another one.
    version: c_uint,
    descriptor: Py<PyAny>,
}

impl CreateTask {
    /// What hears of the tasks of a loop, if it is the loop of the last one.
    fn ends_of<'py>(&self, event_loop: &Bound<'py, PyAny>) -> Option<Bound<'py, TaskEnds>> {
        let py = event_loop.py();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref()?;
        let is_same = known
            .event_loop
            .bind(py)
            .upgrade()
            .is_some_and(|known| known.is(event_loop));
        is_same.then(|| known.ends.bind(py).clone())
    }

    fn remember(&self, event_loop: &Bound<'_, PyAny>, ends: Bound<'_, TaskEnds>) -> PyResult<()> {
        let known = Known {
            event_loop: PyWeakrefReference::new(event_loop)?.unbind(),
            ends: ends.unbind(),
        };
        let mut last = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = last.replace(known);
        drop(last);
        drop(replaced);
        Ok(())
    }

    fn create<'py>(
        &self,
        event_loop: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(method) = self.method_of(event_loop)? {
            return method.call(args, kwargs);
        }
        let py = event_loop.py();
        let method = match &self.own {
            Some(own) => own
                .bind(py)
                .call_method1(intern!(py, "__get__"), (event_loop,))?,
            None => PySuper::new(self.class.bind(py), event_loop)?
                .getattr(intern!(py, "create_task"))?,
        };
        method.call(args.get_slice(1, args.len()), kwargs)
    }

    /// What is to be called with the loop first. `None` where the loop must be asked each time.
    fn method_of<'py>(
        &self,
        event_loop: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = event_loop.py();
        let class = event_loop.get_type();
        let address = class.as_ptr() as usize;
        // SAFETY: *attached*: the class is alive.
        let version = unsafe { (*class.as_type_ptr()).tp_version_tag };
        let known = self.method.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(method) = known.as_ref()
            && (method.class, method.version) == (address, version)
        {
            return Ok(Some(method.descriptor.bind(py).clone()));
        }
        drop(known);
        let Some(descriptor) = self.find(&class)?.filter(is_called_with_self) else {
            return Ok(None);
        };
        // Python code may have run, and 0 is no number.
        // SAFETY: as above.
        let is_same = unsafe { (*class.as_type_ptr()).tp_version_tag } == version;
        if version != 0 && is_same {
            let method = Method {
                class: address,
                version,
                descriptor: descriptor.clone().unbind(),
            };
            let mut known = self.method.lock().unwrap_or_else(PoisonError::into_inner);
            let replaced = known.replace(method);
            drop(known);
            drop(replaced);
        }
        Ok(Some(descriptor))
    }

    /// What a class of loops has under the name beyond ours.
    fn find<'py>(&self, class: &Bound<'py, PyType>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = class.py();
        if let Some(own) = &self.own {
            return Ok(Some(own.bind(py).clone()));
        }
        if !class.is_subclass(self.class.bind(py))? {
            // It has taken the method over from a class that it does not derive from.
            return Ok(Some(self.wrapped.bind(py).clone()));
        }
        let mut bases = class.mro().into_iter();
        bases.by_ref().find(|base| base.is(&self.class));
        for base in bases {
            if let Ok(found) = base
                .getattr("__dict__")?
                .get_item(intern!(py, "create_task"))
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

#[pymethods]
impl CreateTask {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        let Ok(event_loop) = args.get_borrowed_item(0) else {
            return self.wrapped.bind(py).call(args, kwargs);
        };
        let event_loop = event_loop.to_owned();
        let task = self.create(&event_loop, args, kwargs)?;
        forsaking::stay();
        let created = self.created.bind(py);
        if let Some(ends) = self.ends_of(&event_loop)
            && heard(created, TaskEnds::begun(&ends, &task))? != Some(false)
        {
            return Ok(task);
        }
        let ends = heard(created, created.call1((&event_loop, &task)))?;
        if let Some(Ok(ends)) = ends.map(Bound::cast_into::<TaskEnds>) {
            self.remember(&event_loop, ends)?;
        }
        Ok(task)
    }

    /// As a function of Python's: of the class it is itself, of a loop it is a bound method.
    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        event_loop: Option<&Bound<'py, PyAny>>,
        _class: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(event_loop) = event_loop else {
            return Ok(slf.clone().into_any());
        };
        // SAFETY: *attached*; a new reference, or null for an error that is set.
        unsafe {
            let method = PyMethod_New(slf.as_ptr(), event_loop.as_ptr());
            Bound::from_owned_ptr_or_err(slf.py(), method)
        }
    }

    #[getter(__doc__)]
    fn doc<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.wrapped.bind(py).getattr(intern!(py, "__doc__"))
    }

    /// All other attributes.
    fn __getattr__<'py>(&self, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.wrapped.bind(name.py()).getattr(name.str()?)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The class's own dictionary ends the circle that these are in.
        visit.call(&self.class)?;
        visit.call(&self.own)?;
        visit.call(&self.wrapped)?;
        visit.call(&self.created)?;
        if let Some(Some(method)) = self.method.try_lock().ok().as_deref() {
            visit.call(&method.descriptor)?;
        }
        match self.known.try_lock().ok().as_deref() {
            Some(Some(known)) => {
                visit.call(&known.event_loop)?;
                visit.call(&known.ends)
            }
            _ => Ok(()),
        }
    }
}

/// Whether an object is called like the method that it binds, with `self` first.
fn is_called_with_self(descriptor: &Bound<'_, PyAny>) -> bool {
    // SAFETY: *attached*: the object and its class are alive.
    let flags = unsafe { ffi::PyType_GetFlags(descriptor.get_type_ptr()) };
    flags & ffi::Py_TPFLAGS_METHOD_DESCRIPTOR != 0
}

/// What is to stand in the place of the `create_task` of a class of loops. It calls
/// `created(loop, task)` of tasks of which it does not know what hears of them.
#[pyfunction]
pub(crate) fn heard_create_task<'py>(
    class: &Bound<'py, PyType>,
    created: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let name = intern!(py, "create_task");
    let own = class.getattr(intern!(py, "__dict__"))?.get_item(name).ok();
    let call = CreateTask {
        class: class.clone().unbind(),
        own: own.map(Bound::unbind),
        wrapped: class.getattr(name)?.unbind(),
        created: created.clone().unbind(),
        known: Mutex::new(None),
        method: Mutex::new(None),
    };
    Ok(Bound::new(py, call)?.into_any())
}
