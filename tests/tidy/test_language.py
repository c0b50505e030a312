"""Words of comments and documents: sentences name their actor, and use the field's terms."""

import re
from pathlib import Path

import pytest
from prose import document_prose, prose, python_prose, rust_prose
from sources import ROOT, declared, files, shown, words_of

NO_ACTOR = re.compile(
    r"\b(?:who|whom|whoever|(?:some|any|every)(?:body|one)|nobody|others)\b", re.IGNORECASE
)
"""Words in the place of an actor: name the thread, the process, the callback or the program."""

OF_NAMES = {"others"}
"""Words that a name may hold: the rest of a collection has no better one."""

OTHER_TERMS = {
    re.compile(r"\binterpreter(?:'s)? lock\b", re.IGNORECASE): "GIL",
    re.compile(r"\b(?:stack|Python|Rust) frames?\b|\bframes? of (?:the )?stack\b"): "stack entry",
}
"""Terms of ours for which there is a better one; a frame is a message in a ring."""


def sources() -> list[Path]:
    """The files whose prose is checked."""
    documents = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")]
    return [*documents, *files(".rs", ".py", ".pyi", ".md")]


@pytest.fixture(scope="module")
def lines() -> list[tuple[str, str]]:
    """Each line of prose with the place where it stands."""
    return [(f"{shown(path)}:{number}", text) for path in sources() for number, text in prose(path)]


def test_sentences_name_their_actor(lines):
    found = [f"{place}: {text.strip()}" for place, text in lines if NO_ACTOR.search(text)]
    assert found == [], "name the thread, the process, the callback or the program that is meant"


def test_names_name_their_actor():
    found = [
        f"{shown(path)}:{line} {name}"
        for path in files(".rs", ".py")
        for line, name in declared(path)
        if any(map(NO_ACTOR.fullmatch, set(words_of(name)) - OF_NAMES))
    ]
    assert found == [], "name the thread, the process, the callback or the program that is meant"


@pytest.mark.parametrize(("other", "term"), OTHER_TERMS.items(), ids=OTHER_TERMS.values())
def test_terms_are_those_of_the_field(lines, other, term):
    found = [f"{place}: {text.strip()}" for place, text in lines if other.search(text)]
    assert found == [], f"write {term!r}"


def test_prose_is_told_from_code(tmp_path):
    assert list(rust_prose('let nobody = "// who"; // a comment\n//! A module\nfn who() {}')) == [
        (1, " a comment"),
        (2, " A module"),
    ]
    assert list(python_prose('"""One.\n\nTwo."""\nwho = "nobody"  # A comment\n')) == [
        (4, "# A comment"),
        (1, "One."),
        (2, ""),
        (3, "Two."),
    ]
    assert list(document_prose("Text\n```text\nwho\n```\nmore")) == [(1, "Text"), (5, "more")]
    page = tmp_path / "page.md"
    page.write_text("`who` runs [it](004-who-resolves.md), as docs/004-who.md says")
    assert [text for _, text in prose(page)] == [" runs [it, as  says"]
