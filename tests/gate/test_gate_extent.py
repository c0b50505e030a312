"""Only a run of all tests takes known stalls out of their file, and only of tests that ended."""

import pytest

SOURCE = """
    import os
    import pytest

    class Test:
        def test_1(self): ...
        def test_2(self): ...

    def test_fails_if_told_to():
        assert "FAILS" not in os.environ

    def test_ends_the_run_if_told_to():
        match os.environ.get("ENDS"):
            case "ctrl-c":
                raise KeyboardInterrupt
            case "exit":
                pytest.exit("enough", returncode=0)
            case "crash":
                os._exit(3)

    def test_last(): ...
"""
GONE = '[[stall]]\nfile = "a.py"\nfunction = "gone"\nline = "time.sleep(3)"\n'
WRITE = ("--offloop-ratchet=known.toml", "--offloop-ratchet-write")


@pytest.fixture
def kept(suite, tmp_path):
    """Whether a run keeps a known stall that it has not seen; the run."""

    def run(*options, source=SOURCE, test="", **settings):
        named = f'test = "{test}"\n' if test else ""
        (tmp_path / "known.toml").write_text(GONE + named)
        settings.setdefault("plugins", ())
        ran = suite(source, *WRITE, *options, **settings)
        return (tmp_path / "known.toml").read_text().count("[[stall]]") == 1, ran

    return run


def test_a_whole_run_takes_out_what_it_has_not_seen(kept):
    stays, ran = kept()
    assert (stays, ran.status) == (False, 0), ran.text
    assert "known, but not seen in this run: are taken out:" in ran.text
    assert not kept("-n", "2", plugins=("xdist",))[0]
    assert not kept(env={"FAILS": "1"})[0]


PARTIAL = {
    "selected by name": (("-k", "test_1"), {}, "tests were deselected"),
    "selected by name, in processes": (("-n", "2", "-k", "test_1"), {}, "tests were deselected"),
    "collected only": (("--collect-only",), {}, "--collect-only"),
    "fixtures shown": (("--fixtures",), {}, None),
    "set up only": (("--setup-only",), {}, "--setup-only"),
    "stopped": (("-x",), {"FAILS": "1"}, "the run was stopped"),
    "interrupted": ((), {"ENDS": "ctrl-c"}, "the run was interrupted"),
    "interrupted, in processes": (("-n", "2"), {"ENDS": "ctrl-c"}, None),
    "ended": ((), {"ENDS": "exit"}, "the run was interrupted"),
    "a process crashed": (("-n", "2"), {"ENDS": "crash"}, "has ended without a word"),
    "one test named": (("test_it.py::Test::test_1",), {}, "the command line leaves tests out"),
    "nothing collected": (("-m", "none"), {}, "tests were deselected"),
}


@pytest.mark.parametrize("way", PARTIAL)
def test_a_run_of_some_tests_takes_nothing_out(kept, way):
    options, env, why = PARTIAL[way]
    plugins = ("xdist",) if "-n" in options else ()
    stays, ran = kept(*options, env=env, plugins=plugins)
    assert stays, ran.text
    if why is not None:
        assert "known, not seen in this run, and kept: 1" in ran.text
        assert why in ran.text
    assert "are taken out" not in ran.text


@pytest.mark.parametrize("way", ["stopped", "selected by name, in processes", "interrupted"])
def test_a_run_of_some_tests_tells_of_nothing_that_is_gone(suite, tmp_path, way):
    (tmp_path / "known.toml").write_text(GONE)
    options, env, _ = PARTIAL[way]
    plugins = ("xdist",) if "-n" in options else ()
    ran = suite(SOURCE, WRITE[0], "--offloop-json=gate.json", *options, env=env, plugins=plugins)
    assert "not seen" not in ran.text
    assert ran.json()["partial"]


def test_a_run_of_what_failed_last_takes_nothing_out(kept):
    # The file without failures is not collected, and so no test of it deselected.
    settings = {
        "source": "def test_fails():\n    assert False\n",
        "others": {"test_other.py": "def test_passes(): ...\n"},
        "plugins": ("cacheprovider",),
    }
    stays, ran = kept(**settings)
    assert not stays
    assert "1 failed, 1 passed" in ran.text
    stays, ran = kept("--lf", **settings)
    assert stays, ran.text
    assert "kept: 1 (the run has --last-failed)" in ran.text


def test_a_run_with_a_broken_file_takes_nothing_out(kept, tmp_path):
    (tmp_path / "test_broken.py").write_text("import no_such_module_at_all")
    for options in ((), ("--continue-on-collection-errors",)):
        stays, ran = kept(*options)
        assert stays, ran.text
        assert "not all tests could be collected" in ran.text


def test_folders_that_hold_all_tests_are_the_whole_and_others_are_not(kept, tmp_path):
    (tmp_path / "inner").mkdir()
    assert not kept(".")[0]
    assert not kept("test_it.py")[0]
    assert not kept("--ignore=inner")[0]
    (tmp_path / "inner" / "test_more.py").write_text("def test_more(): ...\n")
    assert kept("inner")[0]
    assert kept("test_it.py")[0]
    assert kept("--ignore=inner")[0]
    assert kept("--ignore-glob=inner/*")[0]
    assert not kept("test_it.py", "inner")[0]
    # What the ini file calls the whole is the whole.
    assert not kept("inner", ini="testpaths = inner")[0]
    assert not kept(ini="testpaths = inner")[0]
    assert kept("test_it.py", ini="testpaths = inner")[0]


NOT_ENDED = """
    import pytest

    @pytest.mark.skip
    def test_skipped(): ...

    @pytest.mark.xfail
    def test_known():
        assert False

    def test_broken():
        assert False

    @pytest.fixture
    def cannot():
        raise ValueError

    def test_not_set_up(cannot): ...

    def test_well(): ...
"""


@pytest.mark.parametrize("test", ["skipped", "known", "broken", "not_set_up"])
def test_stalls_of_tests_that_did_not_come_to_their_end_stay(kept, test):
    stays, ran = kept(source=NOT_ENDED, test=f"test_it.py::test_{test}")
    assert stays, ran.text
    assert "kept: 1 (their tests did not come to an end)" in ran.text


def test_stalls_of_tests_that_ended_or_are_no_more_are_taken_out(kept, tmp_path):
    assert not kept(source=NOT_ENDED, test="test_it.py::test_well")[0]
    assert not kept(source=NOT_ENDED, test="test_it.py::test_of_yesterday")[0]
    assert not kept(source=NOT_ENDED, test="test_yesterday.py::test_it")[0]
    # A file that is there and was left out, by a conftest for instance.
    (tmp_path / "test_yesterday.py").write_text("import pytest\npytest.importorskip('no_such')")
    assert kept(source=NOT_ENDED, test="test_yesterday.py::test_it")[0]


def test_the_test_that_has_seen_a_stall_is_written_beside_it(suite):
    source = """
        import asyncio, time

        async def old():
            time.sleep(0.15)

        def test_b():
            asyncio.run(old())

        def test_a():
            asyncio.run(old())
    """
    options = ("-n", "2", "--dist=loadgroup")
    ran = suite(source, *WRITE, *options, plugins=("xdist",))
    written = (ran.folder / "known.toml").read_text()
    assert written.count("[[stall]]") == 1
    assert 'test = "test_it.py::test_a"\n' in written
    # It stays as it is while that test sees it, and comments with it.
    (ran.folder / "known.toml").write_text("# Ours.\n" + written)
    suite(source, *WRITE, "-k", "test_b", plugins=())
    assert (ran.folder / "known.toml").read_text() == "# Ours.\n" + written


def test_a_stall_without_a_line_cannot_be_known_and_the_run_that_writes_says_so(suite):
    source = """
        import asyncio, time

        async def main():
            asyncio.get_running_loop().call_soon(time.sleep, 0.3)
            await asyncio.sleep(0.01)

        def test_has_no_line():
            asyncio.run(main())
    """
    for options in (WRITE, WRITE[:1]):
        ran = suite(source, *options, "--offloop-json=gate.json", plugins=())
        (stall,) = ran.json()["findings"]
        assert stall["file"] is None, "this test needs another such stall"
        assert not stall["known"]
        assert ran.failed() == {"test_has_no_line": "call"}
        assert "are known" not in ran.text
        says = "1 stalls have no line that could be known, and fail their test" in ran.text
        assert says == (options is WRITE)
