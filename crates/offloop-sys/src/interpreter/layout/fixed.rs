//! The layouts of CPython 3.11 and 3.12, which publish none.
//!
//! Each is computed by a C compiler from the headers of one release, and holds for all final
//! releases of that minor version: 3.11.0 to 3.11.15 and 3.12.0 to 3.12.13. These structures are
//! seen by extensions that were compiled once for a minor version (Cython, greenlet, and the
//! interpreter's own macros use them), so they do not change within one. Only an ordinary build is
//! meant: one that traces references has longer objects. The caller of a layout compares what it
//! reads with what the interpreter says of itself first, and so finds out about any other build.
//!
//! Source: `offsetof` on the headers of 3.11.7 and 3.12.1, x86-64. No field stands behind a type
//!         whose size depends on the processor, so aarch64 has the same.

use super::{
    BytesLayout, CodeLayout, Current, FrameLayout, GIL_BYTES, GilLayout, GilPlace, Layout,
    TextLayout, ThreadLayout,
};

const BYTES: BytesLayout = BytesLayout {
    length: 16,
    data: 32,
};

pub(super) fn of_3_11() -> Layout {
    Layout {
        interpreters_head: 40,
        interpreter_next: 0,
        threads_head: 16,
        thread: ThreadLayout {
            next: 8,
            interpreter: 16,
            native_id: 160,
            current: Current::Record {
                record: 56,
                frame: 8,
            },
        },
        frame: FrameLayout {
            executable: 32,
            executable_tags: 0,
            previous: 48,
            instruction: 56,
            owner: 69,
            inner_owners: 3,
            has_entry_frames: false,
        },
        code: CodeLayout {
            units: 16,
            first_line: 72,
            filename: 112,
            qualname: 128,
            line_table: 136,
            first_traceable: 168,
            instructions: 184,
        },
        gil: GilLayout {
            place: GilPlace::Runtime(360),
            holder: 8,
            locked: 16,
            bytes: GIL_BYTES,
            collecting: 848,
            requested: None,
        },
        loops: &[38, 134, 140, 173, 174, 175, 176],
        object_type: 8,
        text: TextLayout {
            length: 16,
            state: 32,
            ascii_data: 48,
            data: 72,
        },
        bytes: BYTES,
        coroutines: None,
    }
}

pub(super) fn of_3_12() -> Layout {
    Layout {
        interpreters_head: 40,
        interpreter_next: 0,
        threads_head: 72,
        thread: ThreadLayout {
            next: 8,
            interpreter: 16,
            native_id: 144,
            current: Current::Record {
                record: 56,
                frame: 0,
            },
        },
        frame: FrameLayout {
            executable: 0,
            executable_tags: 0,
            previous: 8,
            instruction: 56,
            owner: 70,
            inner_owners: 3,
            has_entry_frames: true,
        },
        code: CodeLayout {
            units: 16,
            first_line: 68,
            filename: 112,
            qualname: 128,
            line_table: 136,
            first_traceable: 176,
            instructions: 192,
        },
        gil: GilLayout {
            place: GilPlace::Interpreter(384),
            holder: 8,
            locked: 16,
            bytes: GIL_BYTES,
            collecting: 312,
            requested: None,
        },
        loops: &[134, 140, 246],
        object_type: 8,
        text: TextLayout {
            length: 16,
            state: 32,
            ascii_data: 40,
            data: 56,
        },
        bytes: BYTES,
        coroutines: None,
    }
}
