//! What a worker knows by number: functions, and the definitions that these need.

use std::collections::HashMap;

use offloop::arena::MappedBlock;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::definitions;
use crate::names;

enum Definition {
    Bytes(Sent),
    /// A function, and the numbers of what it needs.
    Loaded(Py<PyAny>, Vec<u32>),
    /// Held by `_offloop_worker.namespace`.
    Announced,
}

/// A definition as it came: inline or in a block of the parent's arena.
pub(super) struct Sent {
    pub(super) inline: Vec<u8>,
    pub(super) block: Option<MappedBlock>,
}

impl Sent {
    pub(super) fn bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        match &self.block {
            None => Ok(PyBytes::new(py, &self.inline)),
            Some(block) => PyBytes::new_with(py, block.len(), |bytes| {
                block.read(0, bytes);
                Ok(())
            }),
        }
    }
}

/// All that the worker was told and has not been told to forget.
#[derive(Default)]
pub(super) struct Known {
    definitions: HashMap<u32, Definition>,
    /// The function whose needs are in place; 0 when those of another may be.
    entered: u32,
}

impl Known {
    /// Remembers what is used, if at all, by a later call.
    pub(super) fn define(&mut self, id: u32, sent: Sent) {
        self.definitions.insert(id, Definition::Bytes(sent));
    }

    /// The function of a number, with all that it needs in place.
    pub(super) fn function<'py>(
        &mut self,
        py: Python<'py>,
        id: u32,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(Definition::Loaded(function, needs)) = self.definitions.get(&id) {
            let function = function.bind(py).clone();
            if !needs.is_empty() && self.entered != id {
                let needs = needs.clone();
                self.enter(py, &needs)?;
                self.entered = id;
            }
            return Ok(function);
        }
        let Some(Definition::Bytes(sent)) = self.definitions.get(&id) else {
            let text = format!("function {id} was never defined");
            return Err(PyRuntimeError::new_err(text));
        };
        let bytes = sent.bytes(py)?;
        let (needs, skipped) = definitions::split(bytes.as_bytes());
        if !needs.is_empty() {
            self.enter(py, &needs)?;
            self.entered = id;
        }
        let pickle = PyBytes::new(py, &bytes.as_bytes()[skipped..]);
        let load = names::function(py, "_offloop_worker.namespace", "load")?;
        let loaded = load.call1((pickle,))?;
        let definition = Definition::Loaded(loaded.clone().unbind(), needs);
        self.definitions.insert(id, definition);
        Ok(loaded)
    }

    /// Puts definitions in place, which came before this call.
    pub(super) fn enter(&mut self, py: Python<'_>, numbers: &[u32]) -> PyResult<()> {
        self.entered = 0;
        for number in numbers {
            let Some(Definition::Bytes(sent)) = self.definitions.get(number) else {
                continue;
            };
            let bytes = sent.bytes(py)?;
            names::function(py, "_offloop_worker.namespace", "announce")?
                .call1((*number, bytes))?;
            self.definitions.insert(*number, Definition::Announced);
        }
        let numbers = PyTuple::new(py, numbers)?;
        names::function(py, "_offloop_worker.namespace", "enter")?.call1((numbers,))?;
        Ok(())
    }

    pub(super) fn forget(&mut self, py: Python<'_>, numbers: &[u32]) -> PyResult<()> {
        let mut announced = Vec::new();
        for number in numbers {
            match self.definitions.remove(number) {
                Some(Definition::Announced) => announced.push(*number),
                Some(Definition::Bytes(_) | Definition::Loaded(..)) | None => {}
            }
        }
        if !self.definitions.contains_key(&self.entered) {
            self.entered = 0;
        }
        if !announced.is_empty() {
            names::function(py, "_offloop_worker.namespace", "forget")?.call1((announced,))?;
        }
        Ok(())
    }
}
