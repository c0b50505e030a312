"""What `offloop run` and `offloop report` refuse to write: no file is lost, and nothing waits."""

import os
import subprocess
import sys

import pytest

SECONDS_MAX = 50
PROGRAM = "print('it ran')\n"


@pytest.fixture
def run(tmp_path):
    """Run a command line of offloop in a folder with a program: its status, and what it said."""
    (tmp_path / "app.py").write_text(PROGRAM)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bare").write_text(PROGRAM)
    (tmp_path / "link.json").symlink_to("app.py")
    (tmp_path / "journal.txt").write_text("")

    def run(*words):
        before = _contents(tmp_path)
        ended = subprocess.run(
            [sys.executable, "-m", "offloop", *words],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
        is_same = _contents(tmp_path) == before
        return ended.returncode, ended.stdout, ended.stderr, is_same

    return run


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


REFUSED = [
    ("--trace app.py", "the trace app.py cannot be written: a program has such a name; name the"),
    ("--journal app.py", "the journal app.py cannot be written: a program has such a name"),
    ("--report app.py", "the report app.py cannot be written: a program has such a name"),
    ("--trace other.PYZ app.py", "the trace other.PYZ cannot be written: a program has such"),
    ("--trace bare", "the trace bare cannot be written: no program is named, and this file may"),
    ("--trace bare bare", "the trace bare cannot be written: it is the program itself"),
    ("--trace ./x/../bare bare", "the trace ./x/../bare cannot be written: No such file"),
    ("--journal link.json app.py", "the journal link.json cannot be written: it is the program"),
    ("--trace folder app.py", "the trace folder cannot be written: it is a folder"),
    ("--report folder app.py", "the report folder cannot be written: it is a folder"),
    ("--trace= app.py", "the trace cannot be written: its name is empty"),
    ("--report= app.py", "the report cannot be written: its name is empty"),
    ("--trace - app.py", "the trace - cannot be written: `-` names no file; `./-` does"),
    ("--trace pipe app.py", "the trace pipe cannot be written: it is no regular file"),
    ("--report /dev/full app.py", "the report /dev/full cannot be written: it is no regular file"),
    ("--trace x --journal x app.py", "the journal x cannot be written: it is the trace, too"),
    ("--trace x --trace ./x app.py", "the trace ./x cannot be written: it is the trace, too"),
    ("--report x --journal x app.py", "the journal x cannot be written: it is the report, too"),
    (
        "--report x --trace x.journal app.py",
        "the journal x.journal cannot be written: it is the trace, too",
    ),
    (
        "--report x --journal /dev/null app.py",
        "the report x cannot be written: it is made of the journal, and /dev/null keeps none",
    ),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_would_be_lost_or_cannot_be_written_is_said_before_the_program_runs(
    run, options, said
):
    status, output, errors, is_same = run("run", "--no-report", *options.split(" "))
    assert errors.startswith(f"offloop run: {said}")
    assert (status, output, errors.count("\n"), is_same) == (2, "", 1, True)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("journal.txt", "the report journal.txt cannot be written: it is the journal itself"),
        ("app.py", "the report app.py cannot be written: a program has such a name"),
        ("-", "the report - cannot be written: `-` names no file"),
        ("", "the report cannot be written: its name is empty"),
        ("folder", "the report folder cannot be written: it is a folder"),
    ],
)
def test_report_is_written_over_no_journal_and_no_program(run, out, said):
    status, output, errors, is_same = run("report", "journal.txt", "-o", out)
    assert errors.startswith(f"offloop report: {said}")
    assert (status, output, errors.count("\n"), is_same) == (2, "", 1, True)


def test_files_of_an_earlier_run_are_replaced(run, tmp_path):
    words = ["--trace", "t.json", "--journal", "j", "--report", "r.html", "--trace", "/dev/null"]
    # Standard input is the program, and is empty.
    for _ in range(2):
        status, _, errors, _ = run("run", "--no-report", *words)
        assert (status, errors) == (0, "")
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
