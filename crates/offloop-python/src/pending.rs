//! Futures and streams that wait for an outcome, each under the token that its call carries.
//!
//! Invariants: 1. A token names one of them for one call; it is taken out exactly once.
//!             2. No Python code runs while the table is locked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offloop::{Lane, TaskAddress, Unresolved};
use pyo3::prelude::*;

use crate::functions::FunctionStatistics;
use crate::incoming::Incoming;

/// What waits for news.
pub(crate) enum Waiter {
    /// An `asyncio.Future`, resolved only on its loop's thread.
    Asyncio(Py<PyAny>),
    /// A `concurrent.futures.Future`, resolved on any thread.
    Concurrent(Py<PyAny>),
    /// A future that is resolved, and whose callbacks are to be run.
    Callbacks(Py<PyAny>),
    /// The items of a stream of a lane, taken only on its loop's thread.
    Stream(Arc<Incoming>, Arc<Lane>),
}

/// One waiting future, or stream.
pub(crate) struct Pending {
    pub(crate) waiter: Waiter,
    pub(crate) statistics: Option<Arc<FunctionStatistics>>,
    pub(crate) unresolved: Option<Arc<Unresolved>>,
    /// The call, as soon as it has been admitted; nowhere before.
    pub(crate) task: TaskAddress,
    /// The owner of the loop on whose thread alone it is resolved.
    pub(crate) owner: Option<u8>,
}

#[derive(Default)]
struct Table {
    slots: Vec<(u32, Option<Pending>)>,
    free: Vec<u32>,
}

static TABLE: Mutex<Table> = Mutex::new(Table {
    slots: Vec::new(),
    free: Vec::new(),
});

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a waiting future.
pub(crate) fn insert(pending: Pending) -> u64 {
    let mut table = table();
    if let Some(index) = table.free.pop() {
        let slot = &mut table.slots[index as usize];
        slot.0 = slot.0.wrapping_add(1);
        slot.1 = Some(pending);
        return token(index, slot.0);
    }
    let index = u32::try_from(table.slots.len()).expect("fewer than 2^32 calls in flight");
    table.slots.push((0, Some(pending)));
    token(index, 0)
}

/// Takes a future out; `None` when that has been done.
pub(crate) fn take(token: u64) -> Option<Pending> {
    let mut table = table();
    let (index, generation) = split(token);
    let slot = table
        .slots
        .get_mut(index as usize)
        .filter(|slot| slot.0 == generation)?;
    let pending = slot.1.take()?;
    table.free.push(index);
    Some(pending)
}

/// Takes out what only the loop of this owner could resolve.
pub(crate) fn take_of(owner: u8) -> Vec<Pending> {
    let mut table = table();
    let Table { slots, free } = &mut *table;
    let mut taken = Vec::new();
    for ((_, slot), index) in slots.iter_mut().zip(0..) {
        if slot
            .as_ref()
            .is_some_and(|pending| pending.owner == Some(owner))
        {
            taken.extend(slot.take());
            free.push(index);
        }
    }
    taken
}

/// Changes a waiting future's entry; `None` when it is gone.
pub(crate) fn update<T>(token: u64, change: impl FnOnce(&mut Pending) -> T) -> Option<T> {
    let mut table = table();
    let (index, generation) = split(token);
    let slot = table
        .slots
        .get_mut(index as usize)
        .filter(|slot| slot.0 == generation)?;
    slot.1.as_mut().map(change)
}

/// The stream that waits under `token`.
pub(crate) fn stream(token: u64) -> Option<Arc<Incoming>> {
    update(token, |pending| match &pending.waiter {
        Waiter::Stream(incoming, _) => Some(Arc::clone(incoming)),
        _ => None,
    })
    .flatten()
}

/// Whether a future waits under `token` that `unresolved` counts, and that is to be set.
pub(crate) fn is_counted_by(token: u64, unresolved: &Arc<Unresolved>) -> bool {
    update(token, |pending| {
        let counts = pending.unresolved.as_ref();
        matches!(pending.waiter, Waiter::Concurrent(_))
            && counts.is_some_and(|counts| Arc::ptr_eq(counts, unresolved))
    })
    .unwrap_or(false)
}

fn token(index: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

fn split(token: u64) -> (u32, u32) {
    ((token & u64::from(u32::MAX)) as u32, (token >> 32) as u32)
}
