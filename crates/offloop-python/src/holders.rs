//! Whether anything but themselves holds some objects: what the garbage collector would find out.
//!
//! A task that has failed, or that waits, is often held by nothing but a circle that it is part of:
//! its exception has a traceback, that a stack entry, and that a variable with the task. So the
//! number of its references says little. Here the references of the objects that can be reached
//! from it are counted off, as the collector does; what has more than these is held from outside.
//!
//! Only some of what can be reached is looked at: not the loop, no modules and classes, not the
//! globals of functions, and a bounded number of objects. What is left out counts as outside. So
//! "not held" is always true, and "held" may be said of an object that is not.
//!
//! Invariants: 1. Nothing is changed: no reference is taken but one to the object itself, and no
//!                code of the program runs.
//! Threads:    attached ones. The GIL is kept from the beginning to the end.
//! Source:     Python/gc.c (`subtract_refs`, `move_unreachable`).

use std::collections::HashMap;
use std::ffi::{c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

/// Objects that are looked at, at most: about a millisecond of work.
const OBJECTS_MAX: usize = 10_000;

type Pointer = *mut ffi::PyObject;

/// What was reached, and which of it refers to which, by index.
#[derive(Default)]
struct Reached {
    objects: Vec<Pointer>,
    places: HashMap<usize, usize>,
    /// For each object that was looked into: where its own begin in `targets`.
    starts: Vec<usize>,
    targets: Vec<usize>,
}

/// What one object refers to.
struct Referents {
    found: Vec<Pointer>,
}

extern "C" fn note(object: Pointer, referents: *mut c_void) -> c_int {
    // SAFETY: `referents_of` passes its own, which it does not use meanwhile.
    unsafe { &mut *referents.cast::<Referents>() }
        .found
        .push(object);
    0
}

/// What `object` refers to, as it tells the collector.
///
/// # Safety
/// The caller is attached, and `object` is alive and one that the collector knows.
unsafe fn referents_of(object: Pointer, referents: &mut Referents) {
    referents.found.clear();
    // SAFETY: the caller's. A traverse function calls the visitor and changes nothing.
    unsafe {
        if let Some(traverse) = (*ffi::Py_TYPE(object)).tp_traverse {
            traverse(object, note, std::ptr::from_mut(referents).cast());
        }
        if ffi::PyFunction_Check(object) != 0 {
            let globals = ffi::PyFunction_GetGlobals(object);
            referents.found.retain(|&found| found != globals);
        }
    }
}

/// Whether an object is looked into: the rest counts as outside.
///
/// # Safety
/// As `referents_of`, of any object.
unsafe fn is_inside(object: Pointer, outside: &[Pointer]) -> bool {
    // SAFETY: the caller's.
    unsafe {
        !outside.contains(&object)
            && ffi::PyObject_IS_GC(object) != 0
            && ffi::PyType_Check(object) == 0
            && ffi::PyModule_Check(object) == 0
    }
}

impl Reached {
    /// Everything inside that can be reached from `starts`, up to the limit.
    ///
    /// # Safety
    /// The caller is attached, and holds `starts`.
    unsafe fn from(starts: &[Pointer], outside: &[Pointer]) -> Self {
        let mut reached = Self::default();
        let mut referents = Referents { found: Vec::new() };
        for &start in starts {
            reached.places.insert(start as usize, reached.objects.len());
            reached.objects.push(start);
        }
        let mut next = 0;
        while let Some(&object) = reached.objects.get(next) {
            next += 1;
            reached.starts.push(reached.targets.len());
            // SAFETY: each is alive: it is reached from `starts`, and no code runs meanwhile.
            unsafe { referents_of(object, &mut referents) };
            for &found in &referents.found {
                // SAFETY: the same.
                if unsafe { is_inside(found, outside) }
                    && let Some(place) = reached.place(found)
                {
                    reached.targets.push(place);
                }
            }
        }
        reached.starts.push(reached.targets.len());
        reached
    }

    /// The place of an object, which gets one if there is room.
    fn place(&mut self, object: Pointer) -> Option<usize> {
        let known = self.places.get(&(object as usize)).copied();
        if known.is_some() || self.objects.len() >= OBJECTS_MAX {
            return known;
        }
        let place = self.objects.len();
        self.objects.push(object);
        self.places.insert(object as usize, place);
        Some(place)
    }

    fn targets_of(&self, place: usize) -> &[usize] {
        &self.targets[self.starts[place]..self.starts[place + 1]]
    }

    /// Which objects can be reached from one that has references from outside. The caller has one
    /// reference to each of the first `own`.
    ///
    /// # Safety
    /// As `from`; no code has run since.
    unsafe fn held(&self, own: usize) -> Vec<bool> {
        let mut inside = vec![0_isize; self.objects.len()];
        for &target in &self.targets {
            inside[target] += 1;
        }
        for count in &mut inside[..own] {
            *count += 1;
        }
        let has_more = |place: &usize| {
            // SAFETY: the caller's.
            let count = unsafe { ffi::Py_REFCNT(self.objects[*place]) };
            count > inside[*place]
        };
        let mut waiting: Vec<_> = (0..self.objects.len()).filter(has_more).collect();
        let mut held = vec![false; self.objects.len()];
        while let Some(place) = waiting.pop() {
            if !std::mem::replace(&mut held[place], true) {
                waiting.extend(self.targets_of(place));
            }
        }
        held
    }
}

/// For each weak reference, whether something outside of these objects and what they have holds
/// its object. An object that is gone is not held. What is in `outside` is not looked into.
#[pyfunction]
pub(crate) fn are_held(
    references: Vec<Bound<'_, PyWeakrefReference>>,
    outside: Vec<Bound<'_, PyAny>>,
) -> Vec<bool> {
    let mut places: HashMap<usize, usize> = HashMap::new();
    let mut kept = Vec::new();
    let mut place_of = Vec::new();
    for reference in &references {
        let Some(object) = reference.upgrade() else {
            place_of.push(None);
            continue;
        };
        let next = kept.len();
        let place = *places.entry(object.as_ptr() as usize).or_insert(next);
        place_of.push(Some(place));
        // The second reference to one object goes at once.
        if place == next {
            kept.push(object);
        }
    }
    let starts: Vec<_> = kept.iter().map(Bound::as_ptr).collect();
    let outside: Vec<_> = outside.iter().map(Bound::as_ptr).collect();
    // SAFETY: attached, by the tokens of the references. `kept` has one reference to each object.
    // No Python code runs from here on, so nothing that is reached can go.
    let held = unsafe { Reached::from(&starts, &outside).held(starts.len()) };
    let is_held = |place: Option<usize>| place.is_some_and(|place| held[place]);
    place_of.into_iter().map(is_held).collect()
}
