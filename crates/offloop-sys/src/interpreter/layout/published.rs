//! The layout that CPython publishes in its own memory, from 3.13 on.
//!
//! The runtime's state begins with a table of offsets for debuggers: a cookie, the version, whether
//! the build has no lock, and then groups of offsets. Which groups and which fields there are
//! differs between minor versions and is fixed within one, so each has its list here, in the order
//! of its declaration, as far as we read.
//!
//! Two offsets that we need are not published. They follow from those: where the number of the
//! first traceable instruction is, and where the characters of a string are that is not ASCII.
//!
//! Errors:     `UnsupportedError`: another version, no cookie, or a build without the lock, whose
//!             frames run copies of the code for each thread.
//! Source:     Include/internal/pycore_runtime.h of 3.13, pycore_debug_offsets.h of 3.14 and 3.15.

use super::{
    BytesLayout, CodeLayout, CoroutineLayout, Current, FrameLayout, GIL_BYTES, GilLayout, GilPlace,
    Layout, TextLayout, ThreadLayout, WORD,
};
use crate::interpreter::UnsupportedError;
use crate::interpreter::memory::{Address, Memory};

const COOKIE: &[u8; WORD] = b"xdebugpy";

/// The cookie, the version, and whether there is no lock.
const HEAD_WORDS: usize = 3;

/// A structure of the interpreter, and the offsets that are published for it.
type Group = (&'static str, &'static [&'static str]);

const RUNTIME: Group = ("runtime", &["size", "finalizing", "interpreters_head"]);
const FRAME_3_14: Group = (
    "frame",
    &[
        "size",
        "previous",
        "executable",
        "instr_ptr",
        "localsplus",
        "owner",
        "stackpointer",
        "tlbc_index",
    ],
);
const CODE_3_14: Group = (
    "code",
    &[
        "size",
        "filename",
        "name",
        "qualname",
        "linetable",
        "firstlineno",
        "argcount",
        "localsplusnames",
        "localspluskinds",
        "co_code_adaptive",
        "co_tlbc",
    ],
);
const INTERPRETER_3_14: Group = (
    "interpreter",
    &[
        "size",
        "id",
        "next",
        "threads_head",
        "threads_main",
        "gc",
        "imports_modules",
        "sysdict",
        "builtins",
        "ceval_gil",
        "gil_runtime_state",
        "gil_runtime_state_enabled",
        "gil_runtime_state_locked",
        "gil_runtime_state_holder",
        "code_object_generation",
        "tlbc_generation",
    ],
);
const THREAD_3_13: Group = (
    "thread",
    &[
        "size",
        "prev",
        "next",
        "interp",
        "current_frame",
        "thread_id",
        "native_thread_id",
        "datastack_chunk",
        "status",
    ],
);
const OBJECT: Group = ("object", &["size", "ob_type"]);
const TYPE_3_13: Group = ("type", &["size", "tp_name", "tp_repr", "tp_flags"]);
const TUPLE: Group = ("tuple", &["size", "ob_item", "ob_size"]);
const LIST: Group = ("list", &["size", "ob_item", "ob_size"]);
const SET: Group = ("set", &["size", "used", "table", "mask"]);
const DICT: Group = ("dict", &["size", "ma_keys", "ma_values"]);
const FLOAT: Group = ("float", &["size", "ob_fval"]);
const INTEGER: Group = ("int", &["size", "lv_tag", "ob_digit"]);
const BYTES: Group = ("bytes", &["size", "ob_size", "ob_sval"]);
const TEXT: Group = ("str", &["size", "state", "length", "asciiobject_size"]);
const COLLECTOR: Group = ("gc", &["size", "collecting"]);
const GENERATOR: Group = (
    "generator",
    &["size", "gi_name", "gi_iframe", "gi_frame_state"],
);
const LIST_NODE: Group = ("list node", &["next", "prev"]);

const GROUPS_3_13: &[Group] = &[
    RUNTIME,
    (
        "interpreter",
        &[
            "size",
            "id",
            "next",
            "threads_head",
            "gc",
            "imports_modules",
            "sysdict",
            "builtins",
            "ceval_gil",
            "gil_runtime_state",
            "gil_runtime_state_enabled",
            "gil_runtime_state_locked",
            "gil_runtime_state_holder",
        ],
    ),
    THREAD_3_13,
    (
        "frame",
        &[
            "size",
            "previous",
            "executable",
            "instr_ptr",
            "localsplus",
            "owner",
        ],
    ),
    (
        "code",
        &[
            "size",
            "filename",
            "name",
            "qualname",
            "linetable",
            "firstlineno",
            "argcount",
            "localsplusnames",
            "localspluskinds",
            "co_code_adaptive",
        ],
    ),
    OBJECT,
    TYPE_3_13,
    TUPLE,
    LIST,
    DICT,
    FLOAT,
    INTEGER,
    BYTES,
    TEXT,
    COLLECTOR,
];

const GROUPS_3_14: &[Group] = &[
    RUNTIME,
    INTERPRETER_3_14,
    THREAD_3_13,
    FRAME_3_14,
    CODE_3_14,
    OBJECT,
    TYPE_3_13,
    TUPLE,
    LIST,
    SET,
    DICT,
    FLOAT,
    INTEGER,
    BYTES,
    TEXT,
    COLLECTOR,
    GENERATOR,
    LIST_NODE,
];

const GROUPS_3_15: &[Group] = &[
    RUNTIME,
    INTERPRETER_3_14,
    (
        "thread",
        &[
            "size",
            "prev",
            "next",
            "interp",
            "current_frame",
            "base_frame",
            "last_profiled_frame",
            "last_profiled_frame_seq",
            "thread_id",
            "native_thread_id",
            "datastack_chunk",
            "status",
            "holds_gil",
            "gil_requested",
            "current_exception",
            "exc_state",
        ],
    ),
    ("exception", &["exc_value"]),
    FRAME_3_14,
    CODE_3_14,
    OBJECT,
    (
        "type",
        &[
            "size",
            "tp_name",
            "tp_repr",
            "tp_flags",
            "tp_basicsize",
            "tp_dictoffset",
        ],
    ),
    ("heap type", &["size", "ht_cached_keys"]),
    TUPLE,
    LIST,
    SET,
    DICT,
    FLOAT,
    INTEGER,
    BYTES,
    (
        "str",
        &[
            "size",
            "state",
            "length",
            "asciiobject_size",
            "compactunicodeobject_size",
        ],
    ),
    (
        "gc",
        &[
            "size",
            "collecting",
            "frame",
            "generation_stats_size",
            "generation_stats",
        ],
    ),
    GENERATOR,
    LIST_NODE,
];

/// The offsets as they are in memory, under their names.
struct Table {
    groups: &'static [Group],
    words: Vec<u64>,
}

impl Table {
    fn read(
        memory: &impl Memory,
        runtime: Address,
        groups: &'static [Group],
    ) -> Result<Self, UnsupportedError> {
        let count = HEAD_WORDS + groups.iter().map(|(_, fields)| fields.len()).sum::<usize>();
        let mut bytes = vec![0; count * WORD];
        memory.read(runtime, &mut bytes)?;
        if !bytes.starts_with(COOKIE) {
            return Err(UnsupportedError::Layout);
        }
        let words = bytes
            .chunks_exact(WORD)
            .map(|word| u64::from_ne_bytes(word.try_into().expect("chunks of a word")))
            .collect();
        Ok(Self { groups, words })
    }

    fn version(&self) -> u64 {
        self.words[1]
    }

    fn lacks_lock(&self) -> bool {
        self.words[2] != 0
    }

    /// The offset of a field, which is in the list.
    fn far(&self, structure: &str, field: &str) -> u64 {
        let fields = self
            .groups
            .iter()
            .flat_map(|(group, fields)| fields.iter().map(move |field| (*group, *field)));
        let place = fields
            .into_iter()
            .position(|found| found == (structure, field))
            .expect("the lists have all that is asked for");
        self.words[HEAD_WORDS + place]
    }

    fn near(&self, structure: &str, field: &str) -> usize {
        usize::try_from(self.far(structure, field)).unwrap_or(usize::MAX)
    }
}

/// Reads the table of a runtime that says it is of this version.
pub(super) fn read(
    memory: &impl Memory,
    runtime: Address,
    version: u64,
) -> Result<Layout, UnsupportedError> {
    let groups = match version >> 16 {
        0x030d => GROUPS_3_13,
        0x030e => GROUPS_3_14,
        0x030f => GROUPS_3_15,
        _ => return Err(UnsupportedError::Version { version }),
    };
    let table = Table::read(memory, runtime, groups)?;
    if table.version() != version {
        return Err(UnsupportedError::Layout);
    }
    if table.lacks_lock() {
        return Err(UnsupportedError::FreeThreaded);
    }
    Ok(layout(&table, version))
}

/// The operations that jump back, of this minor version: with and without a look at events, as
/// tools and compilers of traces replace them, and the entry into a trace.
fn loops(version: u64) -> &'static [u8] {
    match version >> 16 {
        0x030d => &[70, 77, 78, 249],
        0x030e => &[75, 76, 175, 176, 253, 255],
        _ => &[74, 75, 181, 182, 252, 254],
    }
}

fn gil(table: &Table, version: u64) -> GilLayout {
    let inside = |field| {
        let begin = table.near("interpreter", "gil_runtime_state");
        // What lies before its beginning is no offset, and too far away to be taken for one.
        table.near("interpreter", field).wrapping_sub(begin)
    };
    let collector = table.far("interpreter", "gc");
    GilLayout {
        place: GilPlace::Interpreter(table.far("interpreter", "ceval_gil")),
        holder: inside("gil_runtime_state_holder"),
        locked: inside("gil_runtime_state_locked"),
        bytes: GIL_BYTES,
        collecting: collector.saturating_add(table.far("gc", "collecting")),
        requested: (version >> 16 == 0x030f).then(|| table.near("thread", "gil_requested")),
    }
}

/// From 3.14 on; the states are counted otherwise from 3.15 on.
fn coroutines(table: &Table, version: u64) -> Option<CoroutineLayout> {
    let awaiting: &[u8] = match version >> 16 {
        0x030d => return None,
        // It is -1 there.
        0x030e => &[0xff],
        _ => &[2, 3],
    };
    Some(CoroutineLayout {
        frame: table.far("generator", "gi_iframe"),
        state: table.far("generator", "gi_frame_state"),
        awaiting,
        stack_pointer: table.far("frame", "stackpointer"),
        node_next: table.far("list node", "next"),
        set_table: table.far("set", "table"),
        set_mask: table.far("set", "mask"),
        integer_tag: table.far("int", "lv_tag"),
        integer_digits: table.far("int", "ob_digit"),
    })
}

fn layout(table: &Table, version: u64) -> Layout {
    let instructions = table.near("code", "co_code_adaptive");
    let ascii_data = table.near("str", "asciiobject_size");
    Layout {
        interpreters_head: table.far("runtime", "interpreters_head"),
        interpreter_next: table.far("interpreter", "next"),
        threads_head: table.far("interpreter", "threads_head"),
        thread: ThreadLayout {
            next: table.near("thread", "next"),
            interpreter: table.near("thread", "interp"),
            native_id: table.near("thread", "native_thread_id"),
            current: Current::Frame(table.near("thread", "current_frame")),
        },
        frame: FrameLayout {
            executable: table.near("frame", "executable"),
            // From 3.14 on two bits say how the reference is counted.
            executable_tags: if version >> 16 == 0x030d { 0 } else { 3 },
            previous: table.near("frame", "previous"),
            instruction: table.near("frame", "instr_ptr"),
            owner: table.near("frame", "owner"),
            inner_owners: 3,
            has_entry_frames: true,
        },
        code: CodeLayout {
            // As in every object of variable size.
            units: table.near("bytes", "ob_size"),
            first_line: table.near("code", "firstlineno"),
            filename: table.near("code", "filename"),
            qualname: table.near("code", "qualname"),
            line_table: table.near("code", "linetable"),
            // An integer, then a pointer, then the instructions.
            first_traceable: instructions.wrapping_sub(2 * WORD),
            instructions,
        },
        gil: gil(table, version),
        loops: loops(version),
        object_type: table.near("object", "ob_type"),
        text: TextLayout {
            length: table.near("str", "length"),
            state: table.near("str", "state"),
            ascii_data,
            // A length and a pointer come between: those of the string in UTF-8.
            data: ascii_data.saturating_add(2 * WORD),
        },
        bytes: BytesLayout {
            length: table.near("bytes", "ob_size"),
            data: table.near("bytes", "ob_sval"),
        },
        coroutines: coroutines(table, version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::memory::MemoryError;

    /// A runtime's state at address 0.
    struct State(Vec<u64>);

    impl Memory for State {
        fn read(&self, address: Address, into: &mut [u8]) -> Result<(), MemoryError> {
            let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let begin = usize::try_from(address).expect("small");
            let part = bytes.get(begin..begin + into.len());
            into.copy_from_slice(part.ok_or(MemoryError::Unmapped { address })?);
            Ok(())
        }
    }

    /// Offsets that are the numbers of their words.
    fn state(version: u64) -> State {
        let mut words: Vec<u64> = (0..120).collect();
        words[0] = u64::from_ne_bytes(*COOKIE);
        words[1] = version;
        words[2] = 0;
        State(words)
    }

    #[test]
    fn fields_are_taken_from_where_each_version_has_them() {
        // Counted by hand in the headers.
        for (
            version,
            current_frame,
            owner,
            instructions,
            ascii_data,
            gil,
            collecting,
            from_tasks,
        ) in [
            (0x030d_00f0, 23, 33, 43, 70, 14, 10 + 72, None),
            (0x030e_0af0, 26, 36, 48, 80, 15, 11 + 82, Some((85, 87))),
            (0x030f_02f0, 26, 44, 56, 92, 15, 11 + 95, Some((101, 103))),
        ] {
            let layout = read(&state(version), 0, version).expect("a known version");
            assert_eq!(layout.interpreters_head, 5);
            assert_eq!(layout.interpreter_next, 8);
            assert_eq!(layout.threads_head, 9);
            assert_eq!(layout.thread.current, Current::Frame(current_frame));
            assert_eq!(layout.frame.owner, owner);
            assert_eq!(layout.code.instructions, instructions);
            assert_eq!(layout.text.ascii_data, ascii_data);
            assert_eq!(layout.gil.place, GilPlace::Interpreter(gil));
            assert_eq!((layout.gil.locked, layout.gil.holder), (2, 3));
            assert_eq!(layout.gil.collecting, collecting);
            let coroutines = layout
                .coroutines
                .map(|layout| (layout.frame, layout.node_next));
            assert_eq!(coroutines, from_tasks);
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let version = 0x030d_00f0;
        let refused = |state: &State, version| read(state, 0, version).expect_err("refused");
        assert_eq!(
            refused(&state(0x0310_00f0), 0x0310_00f0),
            UnsupportedError::Version {
                version: 0x0310_00f0
            }
        );
        assert_eq!(
            refused(&state(version + 1), version),
            UnsupportedError::Layout
        );
        let mut no_cookie = state(version);
        no_cookie.0[0] += 1;
        assert_eq!(refused(&no_cookie, version), UnsupportedError::Layout);
        let mut no_lock = state(version);
        no_lock.0[2] = 1;
        assert_eq!(refused(&no_lock, version), UnsupportedError::FreeThreaded);
        let short = State(state(version).0[..40].to_vec());
        assert_eq!(
            refused(&short, version),
            UnsupportedError::Memory(MemoryError::Unmapped { address: 0 })
        );
    }
}
