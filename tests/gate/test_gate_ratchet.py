"""Known stalls and what is written of a run: the file that shrinks, JSON, JUnit, processes."""

import xml.etree.ElementTree as xml

SOURCE = """
    import asyncio, time
    import pytest

    pytestmark = pytest.mark.asyncio

    def old():
        time.sleep(0.3)

    async def test_old():
        old()

    async def test_old_again():
        old()

    async def test_well(): ...
"""
NEW = """
    async def test_new():
        time.sleep(0.31)
"""
RATCHET = "--offloop-ratchet=known.toml"


def test_known_stalls_fail_no_test_and_new_ones_do(suite):
    ran = suite(SOURCE, RATCHET, "--offloop-ratchet-write")
    assert (ran.status, ran.failed()) == (0, {}), ran.text
    written = (ran.folder / "known.toml").read_text()
    assert written.count("[[stall]]") == 1
    assert 'file = "test_it.py"\nfunction = "old"\nline = "time.sleep(0.3)"\n' in written
    ran = suite("\n\n" + SOURCE + NEW, RATCHET, "--offloop-json=gate.json")
    assert ran.failed() == {"test_new": "call"}
    assert "2 stalls are known and fail no test" in ran.text
    assert ran.json()["known_but_not_seen"] == []
    known = [each["known"] for each in ran.json()["findings"]]
    assert sorted(known) == [False, True, True]


def test_a_stall_that_is_cured_is_told_and_taken_out(suite):
    suite(SOURCE + NEW, RATCHET, "--offloop-ratchet-write")
    cured = SOURCE.replace("time.sleep(0.3)", "time.sleep(0)")
    ran = suite(cured, RATCHET, "--offloop-json=gate.json")
    assert (ran.status, ran.failed()) == (0, {})
    assert "known, but not seen in this run" in ran.text
    assert "  test_it.py in old: time.sleep(0.3)" in ran.text
    assert len(ran.json()["known_but_not_seen"]) == 2
    suite(SOURCE, RATCHET, "--offloop-ratchet-write")
    assert (ran.folder / "known.toml").read_text().count("[[stall]]") == 1
    ran = suite(cured, RATCHET, "--offloop-ratchet-write")
    assert (ran.folder / "known.toml").read_text().count("[[stall]]") == 0


def test_a_run_that_leaves_tests_out_takes_nothing_out_of_the_file(suite):
    suite(SOURCE, RATCHET, "--offloop-ratchet-write")
    ran = suite(SOURCE, RATCHET, "--offloop-ratchet-write", "-k", "well")
    assert (ran.folder / "known.toml").read_text().count("[[stall]]") == 1
    ran = suite(SOURCE, RATCHET, "-k", "well")
    assert "not seen" not in ran.text


def test_a_broken_file_is_refused_in_one_line(suite, tmp_path):
    (tmp_path / "known.toml").write_text('[[stall]]\nfile = "a.py"\n')
    ran = suite(SOURCE, RATCHET)
    assert ran.status == 4
    assert "known.toml: stall 1 does not have texts file, function and line" in ran.text


def test_junit_has_the_failure_with_its_line(suite):
    ran = suite(SOURCE, "--junitxml=junit.xml")
    cases = xml.parse(ran.folder / "junit.xml").iter("testcase")
    failures = {case.get("name"): case.find("failure") for case in cases}
    assert failures["test_well"] is None
    failure = failures["test_old"]
    assert "offloop: event loop blocked for" in failure.get("message")
    assert "test_it.py:8 in old" in failure.get("message")


def test_a_run_in_several_processes_is_told_as_one(suite):
    options = ("-n", "2", "--offloop-json=gate.json", RATCHET, "--offloop-ratchet-write")
    plugins = ("asyncio", "xdist")
    ran = suite(SOURCE + NEW, *options, plugins=plugins)
    assert (ran.status, ran.failed()) == (0, {}), ran.text
    assert (ran.folder / "known.toml").read_text().count("[[stall]]") == 2
    (ran.folder / "known.toml").write_text("")
    ran = suite(SOURCE + NEW, *options[:-1], plugins=plugins)
    assert ran.failed() == dict.fromkeys(("test_old", "test_old_again", "test_new"), "call")
    found = ran.json()
    assert found["tests"] == 4
    assert [each["kind"] for each in found["findings"]] == ["stall"] * 3
    assert "found in 4 tests: 3 stall" in ran.text


def test_marked_tests_of_several_processes_are_told_of_as_well(suite):
    source = """
        import time
        import pytest

        pytestmark = pytest.mark.asyncio

        @pytest.mark.offloop
        async def test_held():
            time.sleep(0.3)

        async def test_free():
            time.sleep(0.3)
    """
    ran = suite(source, "-n", "2", plugins=("asyncio", "xdist"), limit=None)
    assert ran.failed() == {"test_held": "call"}, ran.text
    assert "found in 1 tests: 1 stall" in ran.text


def test_what_comes_too_late_for_its_test_fails_the_run(suite):
    source = """
        import asyncio, threading, time

        LOOP = asyncio.new_event_loop()
        BEGUN = threading.Event()

        def blocks():
            BEGUN.set()
            time.sleep(0.4)

        def test_begins():
            threading.Thread(target=LOOP.run_forever, daemon=True).start()
            LOOP.call_soon_threadsafe(blocks)
            assert BEGUN.wait(20)

        def test_waits_for_it():
            done = threading.Event()
            LOOP.call_soon_threadsafe(done.set)
            assert done.wait(20)
            LOOP.call_soon_threadsafe(LOOP.stop)
    """
    ran = suite(source, "--offloop-json=gate.json", plugins=())
    assert (ran.status, ran.failed()) == (1, {}), ran.text
    assert "came too late for its test, and fails the run:" in ran.text
    (late,) = ran.json()["findings"]
    assert late["late"]
    assert late["function"] == "blocks"
