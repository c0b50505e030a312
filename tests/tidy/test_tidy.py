"""The rules of the house that a machine can check: sizes, opening comments, edges, names."""

import ast
import re
import tomllib

from sources import ROOT, declared, files, functions, rust_code, shown, words_of

FILE_LINES_MAX = 1_000
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100

CRATE_EDGES = {
    "offloop-core": set(),
    "offloop-sys": set(),
    "offloop": {"offloop-core", "offloop-sys"},
    "offloop-views": {"offloop", "offloop-core", "offloop-sys"},
    "offloop-jobs": {"offloop-core"},
    "offloop-check": set(),
    "offloop-top": {"offloop-sys", "offloop-views"},
    "offloop-python": {
        "offloop",
        "offloop-core",
        "offloop-sys",
        "offloop-top",
        "offloop-views",
    },
}
"""Which of our crates each of ours may name: python -> offloop -> core and sys, jobs -> core."""

MAY_NAME_LIBC = {"offloop-sys"}
MAY_BE_UNSAFE = {"offloop-sys", "offloop-python"}
MAY_START_THREADS = {"offloop"}
MAY_NAME_PYO3 = {"offloop-python"}

ABBREVIATIONS = {"mgr", "msg", "cfg", "req", "resp", "cnt", "idx", "conf", "tbl", "svc", "elem"}
"""Words that no name of ours may hold; id, fd, pid and ms are the only short ones."""

IMPORTED_WHEN_NEEDED = {"async_streams": {"asyncio"}, "traced": {"opentelemetry"}}
"""Files of the worker package, with what they import beside the standard library."""

EMPTY_NAMES = {"util", "utils", "helper", "helpers", "misc", "common"}
"""Names of files that say nothing."""


def crate_of(path) -> str:
    """The crate that a file belongs to."""
    return path.relative_to(ROOT / "crates").parts[0]


def rust_of_crates():
    """Rust files that belong to the crates: benches and fuzzers have rules of their own."""
    return [path for path in files(".rs") if path.is_relative_to(ROOT / "crates")]


def test_no_file_is_too_long():
    lengths = {shown(path): len(path.read_text().splitlines()) for path in files(".rs", ".py")}
    assert {name: length for name, length in lengths.items() if length > FILE_LINES_MAX} == {}


def test_no_function_is_too_long():
    long = [
        f"{shown(function.path)}:{function.line} {function.name} has {function.lines} lines"
        for path in files(".rs", ".py")
        for function in functions(path)
        if function.lines > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_no_line_is_too_wide():
    wide = [
        f"{shown(path)}:{number}"
        for path in files(".rs", ".py")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if len(line) > COLUMNS_MAX
    ]
    assert wide == []


def test_every_rust_file_opens_with_its_idea():
    silent = [shown(path) for path in files(".rs") if not path.read_text().startswith("//!")]
    assert silent == []


def test_every_python_file_opens_with_its_idea():
    silent = [
        shown(path) for path in files(".py") if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_crates_depend_one_way():
    for manifest in sorted((ROOT / "crates").glob("*/Cargo.toml")):
        tables = tomllib.loads(manifest.read_text())
        named = {*tables.get("dependencies", {}), *tables.get("build-dependencies", {})}
        name = manifest.parent.name
        assert {crate for crate in named if crate.startswith("offloop")} <= CRATE_EDGES[name], name
        assert "libc" not in named or name in MAY_NAME_LIBC, name
        assert "pyo3" not in named or name in MAY_NAME_PYO3, name


def test_only_sys_names_libc():
    named = [
        f"{shown(path)}:{number}"
        for path in rust_of_crates()
        if crate_of(path) not in MAY_NAME_LIBC
        for number, line in rust_code(path)
        if re.search(r"\blibc\b", line)
    ]
    assert named == []


def test_only_sys_and_python_are_unsafe():
    unsafe = [
        f"{shown(path)}:{number}"
        for path in rust_of_crates()
        if crate_of(path) not in MAY_BE_UNSAFE
        for number, line in rust_code(path)
        if re.search(r"\bunsafe\b", line)
    ]
    assert unsafe == []


def test_core_forbids_unsafe_and_offloop_denies_it():
    core = (ROOT / "crates/offloop-core/src/lib.rs").read_text()
    runtime = (ROOT / "crates/offloop/src/lib.rs").read_text()
    assert "#![forbid(unsafe_code)]" in core
    assert re.search(r"#!\[(deny|forbid)\(unsafe_code\)\]", runtime)


def test_core_has_no_clock_thread_or_file():
    touching = re.compile(r"\bstd::(?:thread|fs|net|process|time::(?:Instant|SystemTime))\b")
    found = [
        f"{shown(path)}:{number}"
        for path in rust_of_crates()
        if shown(path).startswith("crates/offloop-core/src")
        for number, line in rust_code(path, with_tests=False)
        if touching.search(line)
    ]
    assert found == []


def test_only_offloop_starts_threads():
    started = [
        f"{shown(path)}:{number}"
        for path in rust_of_crates()
        if crate_of(path) not in MAY_START_THREADS and "/src/" in shown(path)
        for number, line in rust_code(path, with_tests=False)
        if re.search(r"\bthread::(?:spawn|Builder|scope)\b", line)
    ]
    assert started == []


def test_nothing_is_left_to_do_and_no_test_is_left_out():
    # The words are put together here, so that this file does not name what it forbids.
    words = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]
    marks = ["#[ig" + "nore"]
    calls = ["unimple" + "mented!", "to" + "do!(", "pytest.sk" + "ip(", "self.sk" + "ipTest("]
    forbidden = re.compile("|".join([rf"\b{word}\b" for word in words] + [*map(re.escape, marks)]))
    found = [
        f"{shown(path)}:{number}"
        for path in files(".rs", ".py", ".md", ".toml", ".pyi")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if forbidden.search(line) or any(call in line for call in calls)
    ]
    assert found == []
    left_out = {path: list(marks_in(ast.parse(path.read_text()))) for path in files(".py")}
    assert {shown(path): lines for path, lines in left_out.items() if lines} == {}


LEFT_OUT = re.compile("sk" + "ip|xf" + "ail")


def marks_in(tree):
    """The lines where a test is marked as one that does not count; programs in texts may be."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Attribute(attr="mark"), attr=name):
                pass
            case ast.Attribute(value=ast.Name(id="mark" | "unittest"), attr=name):
                pass
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]):
                pass
            case _:
                continue
        if LEFT_OUT.match(name):
            yield node.lineno


def test_marks_are_found_in_code_and_not_in_texts():
    mark = "xf" + "ail"
    for code in (
        f"@pytest.mark.{mark}\ndef f(): pass",
        f"getattr(mark, '{mark}')",
        f"mark.{mark}()",
    ):
        assert list(marks_in(ast.parse(code))) == [1]
    for code in (f'"""@pytest.mark.{mark}"""', "mark.quick", "getattr(mark, 'quick')"):
        assert list(marks_in(ast.parse(code))) == []


def test_files_have_telling_names():
    assert [shown(path) for path in files(".rs", ".py") if path.stem in EMPTY_NAMES] == []


def test_names_are_not_abbreviated():
    found = [
        f"{shown(path)}:{line} {name}"
        for path in files(".rs", ".py")
        for line, name in declared(path)
        if ABBREVIATIONS & set(words_of(name))
    ]
    assert found == []


def test_names_are_found_behind_every_keyword(tmp_path):
    source = tmp_path / "source.rs"
    source.write_text(
        "pub const fn one() {}\nconst unsafe fn two() {}\nconst THREE: u8 = 3;\n"
        "static mut FOUR: u8 = 4;\nlet mut five = 5;\n"
    )
    assert [name for _, name in declared(source)] == ["one", "two", "THREE", "FOUR", "five"]


def test_worker_package_imports_only_the_standard_library_and_itself():
    import sys

    everywhere = {*sys.stdlib_module_names, "_offloop_worker", "cloudpickle"} - {"asyncio"}
    found = []
    for path in files(".py"):
        if not shown(path).startswith("python/_offloop_worker/"):
            continue
        # Imported by the workers that need them, when they do; see the next test.
        allowed = everywhere | IMPORTED_WHEN_NEEDED.get(path.stem, set())
        for node in ast.walk(ast.parse(path.read_text())):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            found += [
                f"{shown(path)}:{node.lineno} {name}"
                for name in names
                if name.split(".")[0] not in allowed
            ]
    assert found == []


def test_no_module_of_the_worker_package_imports_with_itself_what_few_need():
    found = []
    for path in files(".py"):
        if shown(path).startswith("python/_offloop_worker/"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    text = ast.unparse(node)
                    is_late = re.search(r"async_streams|traced|opentelemetry", text)
                    found += [f"{shown(path)}: {text}"] if is_late else []
    assert found == []


def test_versions_agree():
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cargo["version"] == project["version"]
    assert cargo["license"] == project["license"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()
