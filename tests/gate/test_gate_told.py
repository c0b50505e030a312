"""How findings are told: folded, each attempt its own, and nothing lost where the gate fails."""

import xml.etree.ElementTree as xml

import pytest


def properties(ran) -> dict[str, list[str]]:
    """The properties of the gate in a JUnit file, by test."""
    cases = xml.parse(ran.folder / "junit.xml").iter("testcase")
    return {
        case.get("name"): [
            each.get("value")
            for each in case.iter("property")
            if each.get("name").startswith("offloop_")
        ]
        for case in cases
    }


def test_equal_findings_of_a_phase_are_told_once_with_their_count(suite):
    source = """
        import asyncio, time

        KEPT = []

        async def main(number):
            # Much longer than the machine might keep the watchdog from its core.
            time.sleep(0.25)

        def test_many():
            for number in range(5):
                asyncio.run(main(number))

        async def left():
            for _ in range(12):
                KEPT.append(asyncio.create_task(asyncio.Event().wait()))
            KEPT.append(asyncio.create_task(asyncio.sleep(100)))
            await asyncio.sleep(0)

        def test_tasks():
            asyncio.run(left())
    """
    options = ("--offloop-json=gate.json", "--junitxml=junit.xml")
    ran = suite(source, *options, limit="20ms", plugins=())
    when, text = ran.outcome("test_many")
    assert when == "call"
    assert text.count("event loop blocked for") == 1, text
    assert text.count("and 4 more like it, ") == 1, text
    assert " ms in all" in text
    assert len(text.splitlines()) < 20
    _, text = ran.outcome("test_tasks")
    assert text.count("was still pending") == 2, text
    assert text.count("and 11 more like it") == 1, text
    # The JSON file has each.
    kinds = [each["kind"] for each in ran.json()["findings"]]
    assert (kinds.count("stall"), kinds.count("task")) == (5, 13)
    assert "found in 2 tests: 5 stall, 13 task" in ran.text
    told = properties(ran)
    assert (len(told["test_many"]), len(told["test_tasks"])) == (1, 2)
    assert " (and 4 more like it, " in told["test_many"][0]


def test_what_an_attempt_has_found_is_not_the_next_ones(suite):
    source = """
        import asyncio, time

        RUNS = []

        async def main(test, is_slow):
            if is_slow:
                time.sleep(0.2)

        def test_blocks_at_first():
            RUNS.append(1)
            asyncio.run(main("first", len(RUNS) == 1))

        def test_is_wrong_twice(record_property):
            RUNS.append(2)
            record_property("mine", "stays")
            asyncio.run(main("wrong", RUNS.count(2) == 1))
            assert False

        def test_always():
            asyncio.run(main("always", True))
    """
    # As the plugins do that try failed tests again.
    again = """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            for attempt in range(2):
                item._initrequest()
                reports = runtestprotocol(item, nextitem=nextitem, log=False)
                if not any(each.failed for each in reports):
                    break
            for each in reports:
                item.ihook.pytest_runtest_logreport(report=each)
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
            return True
    """
    options = ("--junitxml=junit.xml", "-p", "again")
    others = {"again.py": again}
    ran = suite(source, *options, plugins=(), ini="pythonpath = .", others=others)
    assert ran.failed() == {"test_is_wrong_twice": "call", "test_always": "call"}, ran.text
    told = {test: len(each) for test, each in properties(ran).items()}
    assert told == {"test_blocks_at_first": 0, "test_is_wrong_twice": 0, "test_always": 1}
    assert "blocked" not in ran.outcome("test_is_wrong_twice")[1]
    assert 'name="mine" value="stays"' in (ran.folder / "junit.xml").read_text()


def test_only_a_call_that_ran_is_said_not_to_be_measured(suite):
    source = """
        import unittest
        import pytest

        @pytest.mark.skip
        async def test_skipped(): ...

        @pytest.mark.skipif(True, reason="not there")
        async def test_skipped_if(): ...

        @pytest.mark.xfail(run=False)
        async def test_known(): ...

        @pytest.fixture
        def broken():
            raise ValueError

        async def test_not_set_up(broken): ...

        async def test_skips_itself():
            raise pytest.skip.Exception("not here")

        async def test_skips_itself_as_unittest_does():
            raise unittest.SkipTest

        async def test_runs_elsewhere(): ...
    """
    elsewhere = """
        import pytest

        # A framework that is not asyncio's.
        @pytest.hookimpl(tryfirst=True)
        def pytest_pyfunc_call(pyfuncitem):
            coroutine = pyfuncitem.obj()
            try:
                coroutine.send(None)
            except StopIteration:
                return True
    """
    options = ("--offloop-json=gate.json", "-p", "elsewhere")
    others = {"elsewhere.py": elsewhere}
    ran = suite(source, *options, plugins=(), ini="pythonpath = .", others=others)
    told = [each["test"] for each in ran.json()["unmeasured"]]
    assert told == ["test_it.py::test_runs_elsewhere"], ran.text


WRONG = """
    import asyncio, pathlib, shutil, time

    async def main():
        time.sleep(0.2)

    def test_blocks():
        asyncio.run(main())

    def test_wrong():
        shutil.rmtree("gone", ignore_errors=True)
        assert 1 == 2
"""
FILES = {
    "json": ("--offloop-json={}",),
    "known": ("--offloop-ratchet={}", "--offloop-ratchet-write"),
}


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_cannot_be_written_is_refused_at_the_start(suite, tmp_path, file):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").touch()
    for path, why in {
        "none/at.all": "none is no folder",
        "folder": "it is a folder",
        "folder/inside/below": "inside is no folder",
    }.items():
        ran = suite(WRONG, *(each.format(path) for each in FILES[file]), plugins=())
        assert ran.status == 4, ran.text
        (line,) = [line for line in ran.text.splitlines() if line.startswith("ERROR:")]
        assert f"{path}: " in line
        assert why in line or (file == "known" and path == "folder"), line
        assert "Traceback" not in ran.text


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("plugins", [(), ("xdist",)], ids=["alone", "divided"])
def test_a_file_that_cannot_be_written_at_the_end_loses_nothing(suite, tmp_path, file, plugins):
    (tmp_path / "gone").mkdir()
    options = [each.format("gone/file") for each in FILES[file]]
    source = WRONG if file == "json" else WRONG.replace("assert 1 == 2", "")
    ran = suite(source, *options, *(("-n", "2") if plugins else ()), plugins=plugins)
    assert ran.status == 1, ran.text
    assert "gone/file: was not written: No such file or directory" in ran.text
    assert "INTERNALERROR" not in ran.text
    if file == "json":
        assert "assert 1 == 2" in ran.text
        assert "2 failed" in ran.text
        assert "time.sleep(0.2)" in ran.text
    else:
        assert "1 stalls are known and fail no test" in ran.text
        assert "2 passed" in ran.text


BREAKS = """
    import os
    from offloop._gate.gate import Gate

    name = os.environ["BREAKS"]
    whole = getattr(Gate, name)
    tests = []

    def pytest_runtest_logstart(nodeid):
        tests.append(nodeid)

    def broken(self, *args):
        if name == "stop" or tests[-1] == "test_it.py::test_it":
            raise RuntimeError(f"broken {name}")
        return whole(self, *args)

    setattr(Gate, name, broken)
"""


@pytest.mark.parametrize("name", ["begin", "watch", "end", "rest", "stop"])
def test_an_error_of_the_gate_keeps_no_phase_from_running(suite, tmp_path, name):
    source = """
        import asyncio, time
        import pytest

        def log(word):
            with open("log", "a") as file:
                file.write(word + " ")

        @pytest.fixture
        def fixture():
            log("up")
            yield
            log("down")

        async def main():
            time.sleep(0.2)

        MARK

        def test_it(fixture):
            log("it")
            asyncio.run(main())

        def test_after(fixture):
            log("after")
    """
    if name == "rest":
        mark = '@pytest.mark.offloop(max_stall="off")'
        source = source.replace("MARK\n", f"def test_before(): ...\n\n        {mark}")
    else:
        source = source.replace("MARK\n", "")
    options, others = ("-p", "breaking"), {"breaking.py": BREAKS}
    ini, env = "pythonpath = .", {"BREAKS": name}
    ran = suite(source, *options, plugins=(), ini=ini, others=others, env=env)
    assert ran.status == 1
    assert "INTERNALERROR" not in ran.text
    assert "the gate itself has failed here, which is no fault of this test" in ran.text
    assert f"RuntimeError: broken {name}" in ran.text
    assert "Traceback (most recent call last)" in ran.text
    # A set-up that has failed, for whatever reason, has no call.
    own = ["it"] if name == "stop" else []
    words = (tmp_path / "log").read_text().split()
    assert words == ["up", *own, "down", "up", "after", "down"]
    # And it is not laid to another test.
    assert set(ran.failed()) == {"test_it"}


def test_an_error_of_the_gate_hides_no_failure_of_the_test(suite):
    source = """
        import asyncio, time

        async def main():
            time.sleep(0.2)

        def test_it():
            asyncio.run(main())
            assert 1 == 2
    """
    options, others = ("-p", "breaking"), {"breaking.py": BREAKS}
    ini, env = "pythonpath = .", {"BREAKS": "take"}
    ran = suite(source, *options, plugins=(), ini=ini, others=others, env=env)
    when, text = ran.outcome("test_it")
    assert when == "call"
    assert "assert 1 == 2" in text
    assert "RuntimeError: broken take" in text
