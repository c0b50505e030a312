"""The runtime stands in floors, and no import runs upward; the binding's files form no circle."""

import pytest
from imports import Import, circles, gone, homeless, imports, place_of, upward
from sources import ROOT

RUNTIME = ROOT / "crates" / "offloop" / "src"
BINDING = ROOT / "crates" / "offloop-python" / "src"

RUNTIME_FLOORS = (
    # What travels, what is started, which thread is on duty, what holds a thread up: they know
    # nothing else of ours.
    ("causes", "engine", "frame", "launch", "loads", "roster", "tracker", "unresolved"),
    # Memory for large payloads, and its way back.
    ("arena", "releases"),
    # Tasks and mailboxes: calls, how they end or fail, and which owner is told.
    # What happened, and what is: records of both. What workers write, while it can be passed on.
    (
        *("call", "fault", "outcome", "item", "task", "notice"),
        *("mailboxes", "journal", "recorder", "snapshot", "stderr"),
    ),
    # One worker, from both sides; the process that forks it.
    ("channel", "worker", "zygote"),
    # Workers that were started alike.
    ("fleet",),
    # All fleets and mailboxes, under one lock.
    ("shared",),
    # What takes the lock: callers, owners, resolvers, the supervisor.
    ("lane", "owner", "crew", "supervisor"),
    # What a user holds.
    ("runtime", "doors"),
    # What looks at loops, and writes into the journal.
    ("watch",),
    # What is written of all that to files, and told in numbers.
    ("recorded", "report", "metrics"),
)


def test_no_import_of_the_runtime_runs_upward():
    assert upward(imports(RUNTIME), RUNTIME_FLOORS) == []


def test_every_file_of_the_runtime_stands_on_a_floor():
    assert homeless(RUNTIME, RUNTIME_FLOORS) == []
    assert gone(RUNTIME, RUNTIME_FLOORS) == []


def test_files_of_the_runtime_form_no_circle_but_with_what_they_are_split_into():
    duties = {Import(top(one.file), top(one.names)) for one in imports(RUNTIME)}
    assert circles(one for one in duties if one.file != one.names) == []


def test_files_of_the_binding_form_no_circle():
    found = imports(BINDING)
    ours = [one for one in found if "event_loop" not in (top(one.file), top(one.names))]
    assert len(ours) > 40
    assert circles(ours) == []


def top(name: str) -> str:
    """The file that a file is a part of."""
    return name.split("/")[0]


@pytest.fixture
def crate(tmp_path):
    """A crate of four files, each of which imports from the rest in another way."""
    (tmp_path / "high").mkdir()
    sources = {
        "lib.rs": "mod high;\nmod low;\npub use high::High;\n",
        "low.rs": "//! Low.\nuse std::{fmt, io};\npub(crate) struct Low;\n"
        "#[cfg(test)]\nmod tests { use crate::high::High; }\n",
        "high.rs": "use crate::low::Low; // and crate::nothing\nmod inner;\nmod mod_of;\n",
        "high/inner.rs": "use super::High;\nfn act() { crate::high::mod_of::act() }\n",
        "high/mod_of.rs": "use crate::{\n    low::{self, Low},\n"
        "    high::inner::{Inner, deep::Deeper},\n};\n",
    }
    for name, source in sources.items():
        (tmp_path / name).write_text(source)
    return tmp_path


def test_imports_are_found_in_every_form(crate):
    assert imports(crate) == {
        Import("high", "low"),
        Import("high/inner", "high"),
        Import("high/inner", "high/mod_of"),
        Import("high/mod_of", "low"),
        Import("high/mod_of", "high/inner"),
    }


def test_circles_and_upward_imports_are_found(crate):
    found = imports(crate)
    assert circles(found) == [["high/inner", "high/mod_of"]]
    assert upward(found, [["low"], ["high"]]) == []
    assert upward(found, [["high"], ["low"]]) == ["high -> low", "high/mod_of -> low"]
    assert upward(found, [["low", "high/mod_of"], ["high"]]) == ["high/mod_of -> high/inner"]


def test_files_and_entries_without_their_counterpart_are_found(crate):
    assert place_of("high/inner", [["low"], ["high"]]).floor == 1
    assert homeless(crate, [["low"], ["high/inner"]]) == ["high/mod_of", "high"]
    assert gone(crate, [["low", "lower"], ["high/inner/deep", "high"]]) == [
        "lower",
        "high/inner/deep",
    ]


def test_a_file_uses_those_of_its_own_folder_that_it_names(crate):
    (crate / "high.rs").write_text("mod inner;\nfn act() {\n    inner::act();\n    low::act()\n}\n")
    assert {one.names for one in imports(crate) if one.file == "high"} == {"high/inner"}


def test_a_restricted_visibility_is_no_import(crate):
    (crate / "low.rs").write_text("pub(in crate::high) fn act() {}\n")
    assert not [one for one in imports(crate) if one.file == "low"]
