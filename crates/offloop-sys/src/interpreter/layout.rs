//! Where CPython keeps what makes up a stack.
//!
//! Offsets only, and how a few fields are to be understood. From 3.13 on the interpreter publishes
//! them itself (`published.rs`); for 3.11 and 3.12 they are constants of ours (`fixed.rs`).
//!
//! Shape:      a place in a structure is its offset; a `Window` is the part of a structure that
//!             holds all that is read of it.
//! Units:      bytes.
//! Invariants: 1. No window is longer than `WINDOW_MAX`, and every field lies inside its own.

mod fixed;
mod published;

use super::UnsupportedError;
use super::memory::{Address, Memory};

/// The furthest that a field may be from the beginning of what is read: more than any of them is.
const WINDOW_MAX: usize = 1024;

/// The furthest that a field read alone may be from the beginning of its structure: the state of an
/// interpreter has hundreds of kilobytes.
const OFFSET_MAX: u64 = 16 * 1024 * 1024;

/// How long an address or a size is.
pub(super) const WORD: usize = 8;

/// All that is known of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// In the runtime's state: the newest interpreter.
    pub interpreters_head: u64,
    /// In an interpreter's state: the next older one.
    pub interpreter_next: u64,
    /// In an interpreter's state: its newest thread.
    pub threads_head: u64,
    pub thread: ThreadLayout,
    pub frame: FrameLayout,
    pub code: CodeLayout,
    pub gil: GilLayout,
    /// Operations that jump back, and do nothing else.
    pub loops: &'static [u8],
    /// In every object: its type.
    pub object_type: usize,
    pub text: TextLayout,
    pub bytes: BytesLayout,
    /// What leads from a task to where it waits, where that is published.
    pub coroutines: Option<CoroutineLayout>,
}

/// Coroutines, and what tasks are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CoroutineLayout {
    /// In a coroutine: its frame, which is part of it.
    pub frame: u64,
    /// In a coroutine: its state, a byte.
    pub state: u64,
    /// The states in which it waits for another one.
    pub awaiting: &'static [u8],
    /// In a frame: what lies above the last object of its stack.
    pub stack_pointer: u64,
    /// In a node of a list: the next one.
    pub node_next: u64,
    /// In a set: its entries, and their number less one.
    pub set_table: u64,
    pub set_mask: u64,
    /// In an integer: how many digits it has, and the first one.
    pub integer_tag: u64,
    pub integer_digits: u64,
}

/// The state of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ThreadLayout {
    pub next: usize,
    pub interpreter: usize,
    pub native_id: usize,
    pub current: Current,
}

/// Where a thread's state says which frame runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Current {
    /// Here.
    Frame(usize),
    /// In a record on the stack of C, which is here, and in it there.
    Record { record: usize, frame: u64 },
}

/// The GIL, and what else is asked of an interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GilLayout {
    pub place: GilPlace,
    /// In the GIL: the thread that has it, or had it last.
    pub holder: usize,
    /// In the GIL: whether a thread has it.
    pub locked: usize,
    /// How long the structure is, where threads that wait for it do so inside of it.
    pub bytes: Option<u64>,
    /// In an interpreter's state: whether it collects garbage.
    pub collecting: u64,
    /// In a thread's state: whether it asks for the GIL, where that is told.
    pub requested: Option<usize>,
}

/// Where the GIL of an interpreter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GilPlace {
    /// In the runtime's state: there is one for all.
    Runtime(u64),
    /// Its address is in the interpreter's state.
    Interpreter(u64),
}

/// In all versions: a number, the holder, whether it is taken, a number, and then two pairs of a
/// condition variable and a mutex, in which threads wait. Only glibc's variables make a thread wait
/// inside of themselves.
pub(super) const GIL_BYTES: Option<u64> = if cfg!(target_env = "gnu") {
    let pair = size_of::<libc::pthread_cond_t>() + size_of::<libc::pthread_mutex_t>();
    Some((4 * WORD + 2 * pair) as u64)
} else {
    None
};

/// A frame of the interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrameLayout {
    pub executable: usize,
    /// Bits of that word which are no part of the address.
    pub executable_tags: u64,
    pub previous: usize,
    pub instruction: usize,
    pub owner: usize,
    /// Frames with this owner or a higher one are the interpreter's own, and run no code.
    pub inner_owners: u8,
    /// Each entry from C has a frame of the interpreter's own, so that the outermost is one.
    pub has_entry_frames: bool,
}

/// A code object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CodeLayout {
    pub units: usize,
    pub first_line: usize,
    pub filename: usize,
    pub qualname: usize,
    pub line_table: usize,
    /// Which instruction is the first of the function proper: a frame that is not there yet is
    /// still being made, and not shown.
    pub first_traceable: usize,
    /// The instructions begin here.
    pub instructions: usize,
}

/// A string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextLayout {
    pub length: usize,
    pub state: usize,
    /// The characters of a string that is ASCII alone.
    pub ascii_data: usize,
    /// Those of any other string.
    pub data: usize,
}

/// A byte string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BytesLayout {
    pub length: usize,
    pub data: usize,
}

impl Layout {
    /// The layout of the interpreter whose runtime's state is at `runtime`, and which says that it
    /// is of this version, in the form of `PY_VERSION_HEX`.
    pub(super) fn find(
        memory: &impl Memory,
        runtime: Address,
        version: u64,
    ) -> Result<Self, UnsupportedError> {
        // Before the final release, structures still change.
        let is_final = version >> 4 & 0xf == 0xf;
        let layout = match version >> 16 {
            0x030b | 0x030c if !is_final => return Err(UnsupportedError::Version { version }),
            0x030b => fixed::of_3_11(),
            0x030c => fixed::of_3_12(),
            _ => published::read(memory, runtime, version)?,
        };
        layout.check()?;
        Ok(layout)
    }

    /// Invariant 1.
    fn check(&self) -> Result<(), UnsupportedError> {
        let far = [
            self.interpreters_head,
            self.interpreter_next,
            self.threads_head,
            match self.thread.current {
                Current::Frame(_) => 0,
                Current::Record { frame, .. } => frame,
            },
            match self.gil.place {
                GilPlace::Runtime(offset) | GilPlace::Interpreter(offset) => offset,
            },
            self.gil.collecting,
            self.gil.requested.unwrap_or(0) as u64,
        ];
        let of_coroutines = self.coroutines.iter().flat_map(|layout| {
            [
                layout.frame,
                layout.state,
                layout.stack_pointer,
                layout.node_next,
                layout.set_table,
                layout.set_mask,
                layout.integer_tag,
                layout.integer_digits,
            ]
        });
        let windows = [
            self.thread.window(),
            self.frame.window(),
            self.code.window(),
            self.text.window(),
            self.bytes.window(),
            self.gil.window(),
            self.object_type,
        ];
        let ordered = self.text.ascii_data <= self.text.data
            && self.code.first_traceable < self.code.instructions;
        if ordered
            && far
                .into_iter()
                .chain(of_coroutines)
                .all(|offset| offset <= OFFSET_MAX)
            && windows.iter().all(|&bytes| bytes <= WINDOW_MAX)
        {
            Ok(())
        } else {
            Err(UnsupportedError::Layout)
        }
    }
}

/// How many bytes hold words at all of these offsets.
fn reach(offsets: &[usize]) -> usize {
    let furthest = offsets.iter().copied().max().unwrap_or(0);
    furthest.saturating_add(WORD)
}

impl ThreadLayout {
    pub(super) fn window(&self) -> usize {
        let current = match self.current {
            Current::Frame(offset) => offset,
            Current::Record { record, .. } => record,
        };
        reach(&[self.next, self.interpreter, self.native_id, current])
    }
}

impl GilLayout {
    pub(super) fn window(&self) -> usize {
        reach(&[self.holder, self.locked])
    }
}

impl FrameLayout {
    pub(super) fn window(&self) -> usize {
        reach(&[self.executable, self.previous, self.instruction, self.owner])
    }
}

impl CodeLayout {
    pub(super) fn window(&self) -> usize {
        reach(&[
            self.units,
            self.first_line,
            self.filename,
            self.qualname,
            self.line_table,
            self.first_traceable,
            self.instructions - WORD.min(self.instructions),
        ])
    }
}

impl TextLayout {
    pub(super) fn window(&self) -> usize {
        reach(&[self.length, self.state, self.data.saturating_sub(WORD)])
    }
}

impl BytesLayout {
    pub(super) fn window(&self) -> usize {
        reach(&[self.length, self.data.saturating_sub(WORD)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_layouts_keep_their_bounds() {
        for layout in [fixed::of_3_11(), fixed::of_3_12()] {
            assert_eq!(layout.check(), Ok(()));
        }
    }

    #[test]
    fn a_layout_out_of_bounds_is_refused() {
        let changes: [fn(&mut Layout); 8] = [
            |layout| layout.threads_head = u64::MAX,
            |layout| layout.frame.owner = usize::MAX,
            |layout| layout.code.line_table = WINDOW_MAX,
            |layout| layout.text.data = layout.text.ascii_data - 1,
            |layout| layout.code.first_traceable = layout.code.instructions,
            |layout| layout.gil.holder = WINDOW_MAX,
            |layout| layout.gil.place = GilPlace::Interpreter(u64::MAX),
            |layout| layout.gil.collecting = OFFSET_MAX + 1,
        ];
        for change in changes {
            let mut layout = fixed::of_3_12();
            change(&mut layout);
            assert_eq!(layout.check(), Err(UnsupportedError::Layout));
        }
    }
}
