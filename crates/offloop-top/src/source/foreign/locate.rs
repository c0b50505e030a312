//! Where the interpreter of another process is: by the files that it has loaded and their symbols.
//!
//! Files are opened through the other process's own root folder if they are there, so a program in
//! a container is found by the files that it sees.
//!
//! Invariants: at most `MAPPINGS_MAX` lines are looked at, and files are read only as far as their
//!             tables reach.
//! Source:     proc_pid_maps(5), proc_pid_root(5), elf(5).

use std::fs::{self, File};
use std::path::Path;

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection, ObjectSegment, ObjectSymbol, ReadCache};
use offloop_sys::interpreter::memory::{Address, Memory, OtherMemory};
use offloop_sys::interpreter::{Asyncio, Symbols};

/// More mappings than a process of Python has.
const MAPPINGS_MAX: usize = 20_000;

/// The symbols that are wanted, in the order of `Found`.
const NAMES: [&str; 6] = [
    "Py_Version",
    "_PyRuntime",
    "PyCode_Type",
    "PyUnicode_Type",
    "PyBytes_Type",
    "PyCoro_Type",
];

/// The section that asyncio's table is in.
const ASYNCIO_SECTION: &str = ".AsyncioDebug";

/// Files that may be an interpreter, and those that may have asyncio's table.
const INTERPRETER_NAMES: [&str; 2] = ["python", "libpypy"];
const ASYNCIO_NAME: &str = "_asyncio";

/// What was found.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) symbols: Symbols,
    pub(super) coroutine_type: Address,
    /// Where asyncio's table is, if the version has one and it was loaded.
    pub(super) asyncio: Option<Asyncio>,
}

/// The first mapping of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    start: Address,
    offset: u64,
    path: String,
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, _) = fields.next()?.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let offset = number(fields.nth(1)?)?;
    let path = &line[line.find('/')?..];
    Some(Mapping {
        start: number(start)?,
        offset,
        path: path.to_owned(),
    })
}

/// The files that a process has mapped, each once.
fn mappings(maps: &str) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = Vec::new();
    for each in maps.lines().take(MAPPINGS_MAX).filter_map(mapping) {
        if found.last().is_none_or(|last| last.path != each.path) {
            found.push(each);
        }
    }
    found
}

/// Looks for the interpreter of a process; `None` if it has none that shows itself.
pub(super) fn locate(pid: u32, memory: &OtherMemory) -> std::io::Result<Option<Located>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mappings = mappings(&maps);
    let executable = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let executable = executable.and_then(|path| Some(path.to_str()?.to_owned()));
    let is_executable = |each: &Mapping| executable.as_ref() == Some(&each.path);
    let file_name = |each: &Mapping| each.path.rsplit('/').next().unwrap_or("").to_owned();
    let may_be = |each: &&Mapping| {
        let name = file_name(each);
        is_executable(each) || INTERPRETER_NAMES.iter().any(|part| name.contains(part))
    };
    let found = mappings.iter().filter(may_be).find_map(|each| {
        let path = path_of(pid, each, is_executable(each));
        interpreter(each, &path, memory)
    });
    let Some(mut located) = found else {
        return Ok(None);
    };
    let apart = mappings
        .iter()
        .filter(|each| file_name(each).starts_with(ASYNCIO_NAME));
    let table = located.asyncio.map(|asyncio| asyncio.table).or_else(|| {
        apart
            .into_iter()
            .find_map(|each| section(each, &path_of(pid, each, false)))
    });
    located.asyncio = table.map(|table| Asyncio {
        table,
        coroutine_type: located.coroutine_type,
    });
    Ok(Some(located))
}

/// A file that was replaced is still there as the process's executable.
fn path_of(pid: u32, mapping: &Mapping, is_executable: bool) -> String {
    if is_executable {
        format!("/proc/{pid}/exe")
    } else {
        // Of a process with another root, the path is seen from there, or from here.
        let theirs = format!("/proc/{pid}/root{}", mapping.path);
        if Path::new(&theirs).exists() {
            theirs
        } else {
            mapping.path.clone()
        }
    }
}

type Elf<'a> = ElfFile64<'a, Endianness, &'a ReadCache<File>>;

/// What is added to an address of the file.
fn bias(elf: &Elf<'_>, mapping: &Mapping) -> Option<u64> {
    elf.segments().find_map(|segment| {
        let (offset, size) = segment.file_range();
        let page = offset & !0xfff;
        let inside = mapping.offset >= page && mapping.offset < offset + size;
        let begin = segment
            .address()
            .wrapping_sub(offset)
            .wrapping_add(mapping.offset);
        inside.then(|| mapping.start.wrapping_sub(begin))
    })
}

fn interpreter(mapping: &Mapping, path: &str, memory: &OtherMemory) -> Option<Located> {
    let cache = ReadCache::new(File::open(path).ok()?);
    let elf = Elf::parse(&cache).ok()?;
    let bias = bias(&elf, mapping)?;
    let mut found = [None; NAMES.len()];
    for symbol in elf.dynamic_symbols().chain(elf.symbols()) {
        if symbol.is_undefined() {
            continue;
        }
        let Ok(name) = symbol.name() else {
            continue;
        };
        if let Some(place) = NAMES.iter().position(|wanted| *wanted == name) {
            found[place] = found[place].or(Some(bias.wrapping_add(symbol.address())));
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    let [
        version,
        runtime,
        code_type,
        text_type,
        bytes_type,
        coroutine_type,
    ] = found;
    let mut bytes = [0; 8];
    memory.read(version?, &mut bytes).ok()?;
    let table = elf.section_by_name(ASYNCIO_SECTION);
    Some(Located {
        symbols: Symbols {
            version: u64::from_ne_bytes(bytes),
            runtime: runtime?,
            code_type: code_type?,
            text_type: text_type?,
            bytes_type: bytes_type?,
        },
        coroutine_type: coroutine_type?,
        asyncio: table.map(|section| Asyncio {
            table: bias.wrapping_add(section.address()),
            coroutine_type: 0,
        }),
    })
}

fn section(mapping: &Mapping, path: &str) -> Option<Address> {
    let cache = ReadCache::new(File::open(path).ok()?);
    let elf = Elf::parse(&cache).ok()?;
    let bias = bias(&elf, mapping)?;
    let section = elf.section_by_name(ASYNCIO_SECTION)?;
    Some(bias.wrapping_add(section.address()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mapping_of_each_file_is_taken() {
        let maps = "\
55d0-55d1 r--p 00000000 fe:01 7    /usr/bin/python3.14
55d1-55e0 r-xp 00001000 fe:01 7    /usr/bin/python3.14
6000-7000 rw-p 00000000 00:00 0    [heap]
7f00-7f10 r--p 00000000 fe:01 9    /a folder/_asyncio.so (deleted)
nonsense";
        let found = mappings(maps);
        let expected = [
            (0x55d0, "/usr/bin/python3.14"),
            (0x7f00, "/a folder/_asyncio.so (deleted)"),
        ];
        let places: Vec<_> = found
            .iter()
            .map(|each| (each.start, each.path.as_str()))
            .collect();
        assert_eq!(places, expected);
    }

    #[test]
    fn a_program_of_rust_has_no_interpreter() {
        let pid = std::process::id();
        let memory = OtherMemory::of(pid).expect("it can be one");
        assert!(locate(pid, &memory).expect("it is there").is_none());
    }
}
