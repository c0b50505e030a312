//! The functions of C that a thread runs, further in than any Python code.
//!
//! A library unwinds a copy of the thread's stack by the tables that compilers write for exceptions
//! (`.eh_frame`). Names come from the symbols that the files still have.
//!
//! Invariants: 1. A function is named only if its symbol covers the address; otherwise the file and
//!                the distance from its beginning are told.
//!             2. A thread that waits in a system call is not interrupted, nor one that holds the
//!                signal back.
//! Source:     docs/design/014-reading-a-stack.md; proc_pid_maps(5).

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use cpp_demangle::DemangleOptions;
use framehop::{
    CacheNative, ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind, Module,
    UnwindRegsNative, Unwinder, UnwinderNative,
};
use object::elf::PF_X;
use object::read::elf::ElfFile64;
use object::{
    Endianness, Object, ObjectSection, ObjectSegment, ObjectSymbol, ReadCache, SegmentFlags,
    SymbolKind,
};
use offloop_core::watch::NativeEntry;
use offloop_sys::native_stack::{NativeStack, Registers, Sampler};

/// How long a thread may take to show its stack.
const PATIENCE: Duration = Duration::from_millis(5);
/// Entries that are told.
const ENTRIES_MAX: usize = 16;
/// What Python's evaluator is called, in which all Python code runs.
const EVALUATOR: &str = "_PyEval_EvalFrame";

/// Code of a file, in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    range: Range<u64>,
    /// Where in the file it begins.
    offset: u64,
    /// The device and the number of the file, as the kernel writes them.
    file: String,
    path: Arc<str>,
}

/// Functions by their addresses in the file.
#[derive(Debug, Default)]
struct Symbols(Vec<(Range<u64>, String)>);

impl Symbols {
    fn new(mut symbols: Vec<(Range<u64>, String)>) -> Self {
        symbols.sort_by_key(|(range, _)| range.start);
        Self(symbols)
    }

    fn name(&self, address: u64) -> Option<&str> {
        let behind = self.0.partition_point(|(range, _)| range.start <= address);
        let (range, name) = self.0.get(behind.checked_sub(1)?)?;
        range.contains(&address).then_some(name)
    }
}

struct Loaded {
    mapping: Mapping,
    /// What is added to an address of the file.
    bias: u64,
    symbols: Symbols,
}

/// Reads what threads of this process run.
pub struct NativeReader {
    sampler: Sampler,
    unwinder: UnwinderNative<Vec<u8>, MayAllocateDuringUnwind>,
    cache: CacheNative<MayAllocateDuringUnwind>,
    /// By where they begin; `None` for those that cannot be read.
    loaded: HashMap<u64, Option<Loaded>>,
}

impl NativeReader {
    /// Takes a signal for this.
    ///
    /// # Errors
    /// The system's, and `Other` if the program handles all signals that may be used.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            sampler: Sampler::install()?,
            unwinder: UnwinderNative::new(),
            cache: CacheNative::new(),
            loaded: HashMap::new(),
        })
    }

    /// The functions of C that a thread runs, innermost first, up to Python code; none if it waits,
    /// or runs Python code.
    pub(super) fn read(&mut self, native_id: u32) -> Vec<NativeEntry> {
        if !self.sampler.is_in_place() {
            // The program handles this signal by now.
            let Ok(sampler) = Sampler::install() else {
                return Vec::new();
            };
            self.sampler = sampler;
        }
        if !may_interrupt(native_id, self.sampler.signal()) {
            return Vec::new();
        }
        let Some(stack) = self.sampler.sample(native_id, PATIENCE) else {
            return Vec::new();
        };
        // Where it cannot be read, nothing is known.
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mappings: Vec<Mapping> = maps.lines().filter_map(mapping).collect();
        self.forget_unmapped(&mappings);
        self.unwind(&stack, &mappings)
    }

    fn forget_unmapped(&mut self, mappings: &[Mapping]) {
        let unwinder = &mut self.unwinder;
        self.loaded.retain(|start, loaded| {
            let is_there = mappings.iter().any(|mapping| {
                mapping.range.start == *start
                    && loaded
                        .as_ref()
                        .is_none_or(|loaded| loaded.mapping == *mapping)
            });
            if !is_there {
                unwinder.remove_module(*start);
            }
            is_there
        });
    }

    fn unwind(&mut self, stack: &NativeStack, mappings: &[Mapping]) -> Vec<NativeEntry> {
        let mut registers = unwinding(&stack.registers);
        let mut at = FrameAddress::from_instruction_pointer(stack.registers.instruction);
        let mut entries = Vec::new();
        while entries.len() < ENTRIES_MAX {
            let address = at.address_for_lookup();
            let Some(mapping) = mappings
                .iter()
                .find(|mapping| mapping.range.contains(&address))
            else {
                break;
            };
            let entry = self.entry(address, mapping);
            if entry.function.starts_with(EVALUATOR) {
                return entries;
            }
            entries.push(entry);
            let next =
                self.unwinder
                    .unwind_frame(at, &mut registers, &mut self.cache, &mut |address| {
                        stack.word(address).ok_or(())
                    });
            match next
                .ok()
                .flatten()
                .and_then(FrameAddress::from_return_address)
            {
                Some(next) => at = next,
                None => break,
            }
        }
        entries
    }

    fn entry(&mut self, address: u64, mapping: &Mapping) -> NativeEntry {
        let unwinder = &mut self.unwinder;
        let loaded = self
            .loaded
            .entry(mapping.range.start)
            .or_insert_with(|| load(mapping, unwinder));
        let file = mapping.path.rsplit('/').next().unwrap_or(&mapping.path);
        let name = loaded.as_ref().and_then(|loaded| {
            let name = loaded.symbols.name(address.checked_sub(loaded.bias)?)?;
            Some(demangled(name))
        });
        let function = name.unwrap_or_else(|| {
            let offset = address - mapping.range.start + mapping.offset;
            format!("{file}+{offset:#x}")
        });
        NativeEntry {
            function: function.into(),
            file: Arc::clone(&mapping.path),
        }
    }
}

/// Whether a thread runs, or is ready to, and takes a signal at once: one that it holds back might
/// be waited for by its number.
fn may_interrupt(native_id: u32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/self/task/{native_id}/status"));
    let status = status.unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim_start)
    };
    let blocked = field("SigBlk:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    let is_blocked = blocked.is_none_or(|mask| mask >> (signal - 1) & 1 == 1);
    field("State:").is_some_and(|state| state.starts_with('R')) && !is_blocked
}

#[cfg(target_arch = "x86_64")]
fn unwinding(registers: &Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.instruction, registers.stack, registers.frame)
}

#[cfg(target_arch = "aarch64")]
fn unwinding(registers: &Registers) -> UnwindRegsNative {
    UnwindRegsNative::new(registers.link, registers.stack, registers.frame)
}

/// A line of `/proc/self/maps`, if it is code of a file that is still there.
fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let access = fields.next()?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let offset = number(fields.next()?)?;
    let file = format!("{} {}", fields.next()?, fields.next()?);
    let path = &line[line.find('/')?..];
    let is_code = access.contains('x') && !path.ends_with(" (deleted)");
    is_code.then_some(Mapping {
        range: number(start)?..number(end)?,
        offset,
        file,
        path: path.into(),
    })
}

/// Reads what a file says of its functions; `None` if it says nothing that can be understood.
fn load(
    mapping: &Mapping,
    unwinder: &mut UnwinderNative<Vec<u8>, MayAllocateDuringUnwind>,
) -> Option<Loaded> {
    let cache = ReadCache::new(File::open(&*mapping.path).ok()?);
    let elf = ElfFile64::<Endianness, _>::parse(&cache).ok()?;
    let bias = elf
        .segments()
        .find_map(|segment| bias_of(&segment, mapping))?;
    let section = |name: &str| {
        let section = elf.section_by_name(name)?;
        let data = section.data().ok()?.to_vec();
        Some((section.address()..section.address() + section.size(), data))
    };
    let (text_svma, text) = section(".text").unzip();
    let (eh_frame_svma, eh_frame) = section(".eh_frame").unzip();
    let (eh_frame_hdr_svma, eh_frame_hdr) = section(".eh_frame_hdr").unzip();
    let got_svma = section(".got").map(|(range, _)| range);
    unwinder.add_module(Module::new(
        mapping.path.to_string(),
        mapping.range.clone(),
        bias,
        ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma,
            text,
            got_svma,
            eh_frame_svma,
            eh_frame,
            eh_frame_hdr_svma,
            eh_frame_hdr,
            ..ExplicitModuleSectionInfo::default()
        },
    ));
    let functions = elf.symbols().chain(elf.dynamic_symbols());
    let functions = functions.filter(|symbol| {
        symbol.kind() == SymbolKind::Text && symbol.is_definition() && symbol.size() > 0
    });
    let symbols = functions
        .filter_map(|symbol| {
            let range = symbol.address()..symbol.address().checked_add(symbol.size())?;
            Some((range, symbol.name().ok()?.to_owned()))
        })
        .collect();
    Some(Loaded {
        mapping: mapping.clone(),
        bias,
        symbols: Symbols::new(symbols),
    })
}

/// What is added to addresses of the segment that is mapped, if this is it. Whole pages are mapped,
/// so the mapping may begin before its segment does.
fn bias_of<'data>(segment: &impl ObjectSegment<'data>, mapping: &Mapping) -> Option<u64> {
    let SegmentFlags::Elf { p_flags, .. } = segment.flags() else {
        return None;
    };
    let (start, length) = segment.file_range();
    let mapped = mapping.offset..mapping.offset + (mapping.range.end - mapping.range.start);
    let is_mapped = p_flags.0 & PF_X.0 != 0 && start < mapped.end && mapped.start < start + length;
    let at = mapping
        .range
        .start
        .wrapping_add(start.wrapping_sub(mapping.offset));
    is_mapped.then(|| at.wrapping_sub(segment.address()))
}

/// A name as it is written in the source of C++ or Rust.
fn demangled(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    let cpp = cpp_demangle::Symbol::new(name).ok();
    let cpp = cpp.and_then(|symbol| symbol.demangle(&DemangleOptions::default()).ok());
    cpp.unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[inline(never)]
    fn spins(stop: &AtomicBool, count: &AtomicU64) {
        while !stop.load(Ordering::Relaxed) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[inline(never)]
    fn calls(stop: &AtomicBool, count: &AtomicU64) {
        spins(stop, count);
        count.store(0, Ordering::Relaxed);
    }

    #[test]
    fn functions_of_a_thread_that_runs_are_named_innermost_first() {
        let mut reader = NativeReader::new().expect("a signal");
        let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let (tell, told) = channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                tell.send(offloop_sys::thread::kernel_id()).expect("heard");
                calls(&stop, &count);
            });
            let native_id = told.recv().expect("told");
            while count.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            // The host may keep it from its core for as long as there is patience.
            let entries = loop {
                let entries = reader.read(native_id);
                if !entries.is_empty() {
                    break entries;
                }
            };
            stop.store(true, Ordering::Relaxed);
            let names: Vec<&str> = entries.iter().map(|entry| &*entry.function).collect();
            let place = |function: &str| {
                let path = format!("offloop::watch::native::tests::{function}");
                names.iter().position(|name| *name == path)
            };
            let (spins, calls) = (place("spins"), place("calls"));
            assert!(spins.is_some() && spins < calls, "{names:?}");
        });
    }

    #[test]
    fn a_thread_that_waits_is_left_alone() {
        let mut reader = NativeReader::new().expect("a signal");
        let (tell, told) = channel();
        let waiting = thread::spawn(move || {
            tell.send(offloop_sys::thread::kernel_id()).expect("heard");
            thread::park();
        });
        let native_id = told.recv().expect("told");
        while may_interrupt(native_id, reader.sampler.signal()) {
            thread::yield_now();
        }
        assert_eq!(reader.read(native_id), []);
        waiting.thread().unpark();
        waiting.join().expect("it ends");
    }

    #[test]
    fn lines_of_maps_are_code_of_files() {
        let line = "7f00-7fff r-xp 00001000 fe:00 12 /usr/lib/lib c.so.6";
        let found = mapping(line).expect("code");
        assert_eq!(
            (found.range, found.offset, &*found.path),
            (0x7f00..0x7fff, 0x1000, "/usr/lib/lib c.so.6")
        );
        for other in [
            "7f00-7fff r--p 00001000 fe:00 12 /usr/lib/libc.so.6",
            "7f00-7fff r-xp 00001000 fe:00 12 /usr/lib/libc.so.6 (deleted)",
            "7f00-7fff r-xp 00000000 00:00 0 [vdso]",
            "7f00-7fff r-xp 00000000 00:00 0",
            "",
        ] {
            assert_eq!(mapping(other), None, "{other}");
        }
    }

    #[test]
    fn a_symbol_names_what_it_covers_and_nothing_else() {
        let symbols = Symbols::new(vec![
            (0x30..0x40, "b".to_owned()),
            (0x10..0x20, "a".to_owned()),
        ]);
        let names: Vec<Option<&str>> = [0x0f, 0x10, 0x1f, 0x20, 0x35, 0x40]
            .map(|address| symbols.name(address))
            .into();
        assert_eq!(names, [None, Some("a"), Some("a"), None, Some("b"), None]);
    }

    #[test]
    fn names_are_as_in_the_source() {
        for (mangled, name) in [
            ("_ZN2at6native6matmulEv", "at::native::matmul()"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("cblas_dgemm", "cblas_dgemm"),
        ] {
            assert_eq!(demangled(mangled), name);
        }
    }
}
