"""What marks and the command line hold a test to, and what a test may ask for itself."""

import pytest

SLEEPS = """
    import asyncio, time
    import pytest

    def sleeps():
        async def main():
            time.sleep(0.2)
        asyncio.run(main())
"""


def test_marks_add_up_and_the_nearest_time_wins(suite):
    source = f"""{SLEEPS}
    pytestmark = pytest.mark.offloop(max_stall="off")

    @pytest.mark.offloop(allow="stall")
    class TestAllowed:
        @pytest.mark.offloop(max_stall="100ms", allow="task")
        def test_allowed(self):
            sleeps()

    @pytest.mark.offloop(max_stall="100ms")
    class TestHeld:
        @pytest.mark.offloop(allow="task")
        def test_held(self):
            sleeps()

        @pytest.mark.offloop(max_stall="2s")
        def test_held_to_more(self):
            sleeps()

    def test_left_alone():
        sleeps()
    """
    assert suite(source, plugins=()).failed() == {"TestHeld::test_held": "call"}


def test_marks_that_a_fixture_adds_count_from_the_call_on(suite):
    source = f"""{SLEEPS}
    MARKS = dict(
        off=pytest.mark.offloop(max_stall="off"),
        less=pytest.mark.offloop(max_stall="50ms"),
        more=pytest.mark.offloop(max_stall="2s"),
        allowed=pytest.mark.offloop(allow=["stall"]),
        wrong=pytest.mark.offloop(max_stall=3),
    )

    @pytest.fixture
    def marked(request):
        request.applymarker(MARKS[request.param])

    @pytest.mark.parametrize("marked", MARKS, indirect=True)
    def test_marked(marked):
        sleeps()

    @pytest.mark.offloop(max_stall="off")
    class TestOffAtFirst:
        @pytest.mark.parametrize("marked", ["less"], indirect=True)
        def test_held(self, marked):
            sleeps()

        @pytest.mark.offloop(max_stall="2s")
        @pytest.mark.parametrize("marked", ["less"], indirect=True)
        def test_whose_own_mark_is_nearer(self, marked):
            sleeps()

    @pytest.mark.parametrize("marked", ["off"], indirect=True)
    def test_off(marked):
        sleeps()

    def test_after():
        sleeps()
    """
    ran = suite(source, limit="100ms", plugins=())
    assert ran.failed() == {
        "test_marked[less]": "call",
        "test_marked[wrong]": "call",
        "TestOffAtFirst::test_held[less]": "call",
        "test_after": "call",
    }, ran.text
    assert "too late" not in ran.text
    assert "test_marked[wrong]: 3 is no time; write 50ms" in ran.outcome("test_marked[wrong]")[1]


def test_a_lower_limit_of_a_fixture_is_measured(suite):
    source = """
        import asyncio, time
        import pytest

        @pytest.fixture
        def strict(request):
            request.applymarker(pytest.mark.offloop(max_stall="50ms"))

        async def main():
            time.sleep(0.2)

        def test_strict(strict):
            asyncio.run(main())

        def test_as_ever():
            asyncio.run(main())
    """
    assert suite(source, limit="2s", plugins=()).failed() == {"test_strict": "call"}


@pytest.mark.parametrize("plugins", [(), ("xdist",)], ids=["alone", "divided"])
@pytest.mark.parametrize("limit", ["100ms", None])
def test_a_wrong_value_of_a_mark_is_refused_in_one_line(suite, plugins, limit):
    source = """
        import pytest

        @pytest.mark.offloop(max_stall=0.05)
        def test_number(): ...

        def test_another(): ...
    """
    options = ("-n", "2") if plugins else ()
    ran = suite(source, *options, plugins=plugins, limit=limit)
    assert ran.status == 4, ran.text
    (line,) = [line for line in ran.text.splitlines() if line.startswith("ERROR:")]
    assert "the mark offloop of test_it.py::test_number: 0.05 is no time; write 50ms" in line
    assert "INTERNALERROR" not in ran.text
    assert "Traceback" not in ran.text


def test_a_mark_that_allows_no_kinds_is_refused(suite):
    source = "import pytest\n@pytest.mark.offloop(allow=True)\ndef test_it(): ...\n"
    ran = suite(source, plugins=())
    assert ran.status == 4
    assert "ERROR: the mark offloop of test_it.py::test_it: allow=True names no kinds" in ran.text


def test_off_on_the_command_line_turns_the_gate_off_for_all_tests(suite):
    source = f"""{SLEEPS}
    @pytest.mark.offloop
    def test_marked():
        sleeps()

    @pytest.mark.offloop
    def test_asks(offloop_gate):
        assert False

    def test_not_marked():
        sleeps()
    """
    ini = "offloop_max_stall = 50ms\naddopts = --offloop-json=gate.json"
    ran = suite(source, limit="off", plugins=(), ini=ini)
    assert (ran.status, ran.failed()) == (0, {}), ran.text
    assert ran.outcome("test_asks")[0] == "skipped"
    ran = suite(source, limit=None, plugins=(), ini="offloop_max_stall = off")
    assert ran.failed() == {"test_marked": "call", "test_asks": "call"}


def test_what_is_looked_for_at_the_end_of_a_test_cannot_be_expected_before(suite):
    source = """
        import asyncio, threading
        from concurrent.futures import ThreadPoolExecutor
        import pytest

        KEPT = []

        async def leaves():
            KEPT.append(asyncio.create_task(asyncio.Event().wait()))
            await asyncio.sleep(0)

        def refuses(gate, kind):
            with pytest.raises(ValueError) as caught:
                with gate.expect("stall", kind):
                    raise AssertionError
            assert f"a {kind} that is left" in str(caught.value)
            assert f"@pytest.mark.offloop(allow='{kind}')" in str(caught.value)

        def test_refused(offloop_gate):
            refuses(offloop_gate, "thread")
            refuses(offloop_gate, "executor")

            async def main():
                refuses(offloop_gate, "task")

            asyncio.run(main())

        def test_not_known(offloop_gate):
            with pytest.raises(ValueError, match="'stalls' is not among stall, task"):
                with offloop_gate.expect("stalls"):
                    raise AssertionError

        def test_a_task_around_its_loop(offloop_gate):
            with offloop_gate.expect("task") as found:
                asyncio.run(leaves())
            assert [each.kind for each in found] == ["task"]

        def test_all(offloop_gate):
            executor = ThreadPoolExecutor(1)
            KEPT.append(executor)
            with offloop_gate.expect() as found:
                asyncio.run(leaves())
                executor.submit(abs, 1).result()
            assert [each.kind for each in found] == ["task"]
    """
    ran = suite(source, plugins=())
    assert ran.failed() == {"test_all": "teardown"}, ran.text
    assert "a ThreadPoolExecutor with 1 worker was not shut down" in ran.outcome("test_all")[1]
