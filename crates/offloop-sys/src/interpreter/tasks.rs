//! The tasks of asyncio, and where each of them waits, read as stacks are.
//!
//! From 3.14 on asyncio publishes a table of its own, in a section of the file that it was loaded
//! from. Each thread has a list of the tasks that were made in it; those of threads that have ended
//! are in a list of the interpreter's. A task has its coroutine, whose frame is a part of it; on
//! the top of that frame's stack is what the coroutine awaits.
//!
//! Units:      bytes.
//! Invariants: 1. What is listed is a task only if its coroutine is one, by its type.
//!             2. At most `TASKS_MAX` tasks are listed, `DEPTH_MAX` coroutines of each, and
//!                `AWAITED_BY_MAX` tasks that await it.
//! Source:     Modules/_asynciomodule.c and Modules/_remote_debugging of 3.14.

use super::code::Codes;
use super::layout::{CoroutineLayout, WORD};
use super::memory::{Address, Memory};
use super::stack::StackEntry;
use super::text::Extent;
use super::threads::Thread;
use super::{Interpreter, Unreadable, checked, field, word};

/// Tasks that are read: reading one takes about 20 us.
const TASKS_MAX: usize = 2_000;
/// Coroutines within each other.
const DEPTH_MAX: usize = 64;
/// Tasks that await one.
const AWAITED_BY_MAX: usize = 16;
/// Entries of a set that are looked at for them.
const SET_ENTRIES_MAX: u64 = 1024;
/// Characters of a name.
const NAME_MAX: usize = 256;
/// Words of asyncio's table.
const TABLE_WORDS: usize = 13;
/// An entry of a set: an object and its hash.
const SET_ENTRY_BYTES: u64 = 2 * WORD as u64;
/// In the tag of an integer: how far its number of digits is to the left; and bits of a digit.
const TAG_SHIFT: u64 = 3;
const DIGIT_BITS: u64 = 30;
/// A reference may have marks in its last bits.
const REFERENCE_MARKS: u64 = 3;

/// Where asyncio is, in a process that has imported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asyncio {
    /// Its table: the section `.AsyncioDebug`.
    pub table: Address,
    /// The type of coroutines.
    pub coroutine_type: Address,
}

/// A task that is not over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenTask {
    /// Where it is: no other task has it.
    pub address: Address,
    /// Its name.
    pub name: String,
    /// The coroutines that it is in, from its own to the innermost one.
    pub stack: Vec<StackEntry>,
    /// The tasks that await it.
    pub awaited_by: Vec<Address>,
    /// A step of it runs.
    pub is_running: bool,
}

/// The table.
struct Offsets {
    name: u64,
    awaited_by: u64,
    awaited_by_is_set: u64,
    coroutine: u64,
    node: u64,
    interpreter_tasks: u64,
    running_loop: u64,
    running_task: u64,
    thread_tasks: u64,
}

impl<M: Memory> Interpreter<M> {
    /// Whether an event loop runs in a thread.
    ///
    /// # Errors
    /// Why that cannot be read: `Malformed` if the version publishes nothing of it.
    pub fn has_running_loop(&self, asyncio: Asyncio, thread: Thread) -> Result<bool, Unreadable> {
        let offsets = self.offsets(asyncio)?;
        self.state_of(thread)?;
        Ok(self.read_word(thread.state, offsets.running_loop)? != 0)
    }

    /// The tasks that were made in these threads and are not over.
    ///
    /// # Errors
    /// Why they cannot be read. One that changes while it is read is left out.
    pub fn tasks(
        &self,
        asyncio: Asyncio,
        threads: &[Thread],
        codes: &mut Codes,
    ) -> Result<Vec<SeenTask>, Unreadable> {
        let offsets = self.offsets(asyncio)?;
        let layout = self.coroutines()?;
        let mut heads = Vec::new();
        let mut running = Vec::new();
        for &thread in threads {
            let Ok(state) = self.state_of(thread) else {
                continue;
            };
            heads.push(field(thread.state, offsets.thread_tasks)?);
            heads.push(field(state.interpreter, offsets.interpreter_tasks)?);
            running.push(self.read_word(thread.state, offsets.running_task)?);
        }
        heads.sort_unstable();
        heads.dedup();
        let mut found = Vec::new();
        for head in heads {
            self.list(head, &offsets, layout, &mut found)?;
        }
        let tasks = found.into_iter().filter_map(|address| {
            let mut task = self.task(asyncio, &offsets, layout, address, codes).ok()?;
            task.is_running = running.contains(&address);
            Some(task)
        });
        Ok(tasks.collect())
    }

    fn coroutines(&self) -> Result<&CoroutineLayout, Unreadable> {
        let what = "a table of asyncio";
        self.layout
            .coroutines
            .as_ref()
            .ok_or(Unreadable::Malformed { what })
    }

    fn offsets(&self, asyncio: Asyncio) -> Result<Offsets, Unreadable> {
        let mut bytes = [0; TABLE_WORDS * WORD];
        self.memory.read(asyncio.table, &mut bytes)?;
        let at = |index: usize| word(&bytes, index * WORD);
        Ok(Offsets {
            name: at(1),
            awaited_by: at(2),
            awaited_by_is_set: at(4),
            coroutine: at(5),
            node: at(6),
            interpreter_tasks: at(8),
            running_loop: at(10),
            running_task: at(11),
            thread_tasks: at(12),
        })
    }

    /// The tasks of a list, which begins and ends with its head.
    fn list(
        &self,
        head: Address,
        offsets: &Offsets,
        layout: &CoroutineLayout,
        found: &mut Vec<Address>,
    ) -> Result<(), Unreadable> {
        let mut node = self.read_word(head, layout.node_next)?;
        while node != head && node != 0 && found.len() < TASKS_MAX {
            let task = node.checked_sub(offsets.node);
            found.push(task.ok_or(Unreadable::Malformed { what: "a task" })?);
            node = self.read_word(checked(node, "a task")?, layout.node_next)?;
        }
        Ok(())
    }

    fn task(
        &self,
        asyncio: Asyncio,
        offsets: &Offsets,
        layout: &CoroutineLayout,
        address: Address,
        codes: &mut Codes,
    ) -> Result<SeenTask, Unreadable> {
        let address = checked(address, "a task")?;
        let coroutine = self.read_word(address, offsets.coroutine)?;
        if !self.is_coroutine(asyncio, coroutine)? {
            return Err(Unreadable::Malformed {
                what: "a coroutine",
            });
        }
        Ok(SeenTask {
            address,
            name: self.name(self.read_word(address, offsets.name)?, layout)?,
            stack: self.coroutine_stack(asyncio, layout, coroutine, codes)?,
            awaited_by: self.awaiting(offsets, layout, address)?,
            is_running: false,
        })
    }

    fn is_coroutine(&self, asyncio: Asyncio, object: Address) -> Result<bool, Unreadable> {
        let kind = self.read_word(
            checked(object, "an object")?,
            self.layout.object_type as u64,
        )?;
        Ok(kind == asyncio.coroutine_type)
    }

    fn coroutine_stack(
        &self,
        asyncio: Asyncio,
        layout: &CoroutineLayout,
        mut coroutine: Address,
        codes: &mut Codes,
    ) -> Result<Vec<StackEntry>, Unreadable> {
        let mut stack = Vec::new();
        while stack.len() < DEPTH_MAX {
            let frame = field(coroutine, layout.frame)?;
            let entry = self
                .frame_at(frame)?
                .and_then(|seen| self.entry_alone(&seen, codes));
            let Some(entry) = entry else {
                break;
            };
            stack.push(entry);
            let mut state = [0];
            self.memory
                .read(field(coroutine, layout.state)?, &mut state)?;
            if !layout.awaiting.contains(&state[0]) {
                break;
            }
            let above = self.read_word(frame, layout.stack_pointer)?;
            let Some(awaited) = self.awaited(asyncio, checked(above, "a stack")?) else {
                break;
            };
            coroutine = awaited;
        }
        Ok(stack)
    }

    /// The coroutine on the top of a stack. From 3.15 on there is a number above it.
    fn awaited(&self, asyncio: Asyncio, above: Address) -> Option<Address> {
        (1..=2).find_map(|depth: u64| {
            let place = above.checked_sub(depth * WORD as u64)?;
            let object = self.read_word(place, 0).ok()? & !REFERENCE_MARKS;
            let is_one = self.is_coroutine(asyncio, object).unwrap_or(false);
            is_one.then_some(object)
        })
    }

    /// A name, or the number that one is made of when it is asked for.
    fn name(&self, object: Address, layout: &CoroutineLayout) -> Result<String, Unreadable> {
        let object = checked(object, "a name")?;
        let kind = self.read_word(object, self.layout.object_type as u64)?;
        if kind == self.symbols.text_type {
            let mut head = vec![0; self.layout.text.window()];
            self.memory.read(object, &mut head)?;
            let extent = Extent::of_text(&self.layout.text, object, &head, NAME_MAX)?;
            let mut data = vec![0; extent.bytes];
            self.memory.read(extent.data, &mut data)?;
            return Ok(extent.decode(&data).to_string());
        }
        let digits = self.read_word(object, layout.integer_tag)? >> TAG_SHIFT;
        let pair = self.read_word(object, layout.integer_digits)?;
        let (low, high) = (pair & 0xffff_ffff, pair >> 32);
        match digits {
            0 | 1 => Ok(format!("Task-{low}")),
            2 => Ok(format!("Task-{}", high << DIGIT_BITS | low)),
            _ => Err(Unreadable::Malformed { what: "a name" }),
        }
    }

    /// The tasks that await one: none, one, or a set of them.
    fn awaiting(
        &self,
        offsets: &Offsets,
        layout: &CoroutineLayout,
        task: Address,
    ) -> Result<Vec<Address>, Unreadable> {
        let object = self.read_word(task, offsets.awaited_by)?;
        let mut is_set = [0];
        self.memory
            .read(field(task, offsets.awaited_by_is_set)?, &mut is_set)?;
        if object == 0 {
            return Ok(Vec::new());
        }
        if is_set[0] == 0 {
            return Ok(vec![object]);
        }
        let mask = self.read_word(checked(object, "a set")?, layout.set_mask)?;
        let table = self.read_word(object, layout.set_table)?;
        let mut found = Vec::new();
        for index in 0..mask.saturating_add(1).min(SET_ENTRIES_MAX) {
            let key = self.read_word(checked(table, "a set")?, index * SET_ENTRY_BYTES)?;
            if key != 0 && found.len() < AWAITED_BY_MAX {
                found.push(key);
            }
        }
        // What was taken out of a set leaves a mark that is no task.
        Ok(found)
    }
}
