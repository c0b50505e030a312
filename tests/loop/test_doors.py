"""Every way to choose our loop: functions, runners, policy, and the command line."""

import asyncio
import gc
import inspect
import sys
import threading
import warnings

import pytest

import offloop
from peers import NEEDS_UVLOOP

pytestmark = pytest.mark.quick

OUR_LOOP = "offloop._loop.event_loop"


async def kind() -> str:
    """Where the class of the running loop stands."""
    await asyncio.sleep(0)
    return type(asyncio.get_running_loop()).__module__


@pytest.fixture
def policy():
    """Our policy, set for the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        previous = asyncio.get_event_loop_policy()
        offloop.install()
        yield asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(previous)


def test_run_uses_our_loop_and_closes_it():
    loops = []

    async def main():
        loops.append(asyncio.get_running_loop())
        return await kind()

    assert offloop.run(main()) == OUR_LOOP
    assert loops[0].is_closed()
    assert asyncio._get_running_loop() is None


def test_run_takes_what_asyncios_takes():
    async def debugs():
        return asyncio.get_running_loop().get_debug()

    assert [offloop.run(debugs(), debug=debug) for debug in (True, False, None)] == [
        True,
        False,
        sys.flags.dev_mode,
    ]
    assert offloop.run(kind(), loop_factory=asyncio.SelectorEventLoop) == "asyncio.unix_events"
    assert offloop.run(kind(), loop_factory=None) == "asyncio.unix_events"
    if sys.version_info >= (3, 12):
        ours, standard = inspect.signature(offloop.run), inspect.signature(asyncio.run)
        assert list(ours.parameters) == list(standard.parameters)
        assert asyncio.run(kind(), loop_factory=offloop.new_event_loop) == OUR_LOOP


def test_run_is_refused_inside_of_a_loop_and_for_what_is_no_coroutine():
    async def main():
        coroutine = kind()
        try:
            with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
                offloop.run(coroutine)
        finally:
            coroutine.close()

    offloop.run(main())
    with pytest.raises(
        (ValueError, TypeError), match=r"a coroutine was expected|An asyncio\.Future"
    ):
        offloop.run(7)


def test_run_cancels_what_is_left_and_finishes_generators():
    seen = []

    async def left_over():
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("cancelled")

    async def main():
        task = asyncio.create_task(left_over())
        await asyncio.sleep(0)
        return task

    assert offloop.run(main()).cancelled()
    assert seen == ["cancelled"]


@pytest.mark.parametrize("factory", [offloop.new_event_loop, offloop.EventLoop])
def test_runner_takes_our_factory(factory):
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(kind()) == OUR_LOOP
        assert runner.run(kind()) == OUR_LOOP
        assert isinstance(runner.get_loop(), asyncio.AbstractEventLoop)


def test_policy_makes_our_loop_the_default(policy):
    assert isinstance(policy, offloop.EventLoopPolicy)
    assert isinstance(policy, asyncio.AbstractEventLoopPolicy)
    assert asyncio.run(kind()) == OUR_LOOP
    with asyncio.Runner() as runner:
        assert runner.run(kind()) == OUR_LOOP
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(kind()) == OUR_LOOP
    loop.close()


def test_policy_holds_in_every_thread(policy):
    kinds = []
    thread = threading.Thread(target=lambda: kinds.append(asyncio.run(kind())))
    thread.start()
    thread.join()
    assert kinds == [OUR_LOOP]


def test_policy_keeps_the_threads_own_loop(policy):
    loop = offloop.new_event_loop()
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    asyncio.set_event_loop(None)
    with pytest.raises(RuntimeError, match="There is no current event loop"):
        asyncio.get_event_loop()
    loop.close()


CHOICES = {
    "asyncio.run": "asyncio.run(main())",
    "Runner": "with asyncio.Runner() as runner: runner.run(main())",
    "new_event_loop": "asyncio.new_event_loop().run_until_complete(main())",
    "in a thread": "threading.Thread(target=lambda: asyncio.run(main())).start()",
}

PROGRAM = """
    import asyncio, offloop, threading, warnings
    warnings.simplefilter("ignore")
    async def main():
        print(type(asyncio.get_running_loop()).__module__, await offloop.to_process(abs, -5))
    {start}
    """


@pytest.mark.parametrize("start", CHOICES)
def test_program_under_offloop_run_gets_our_loop_however_it_starts(run_source, start):
    ended = run_source(PROGRAM.format(start=CHOICES[start]))
    assert (ended.returncode, ended.stdout) == (0, f"{OUR_LOOP} 5\n"), ended.stderr
    assert "polls, offloop" in ended.stderr or "(offloop)" in ended.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--loop", "offloop"), OUR_LOOP),
        (("--loop", "asyncio"), "asyncio.unix_events"),
        pytest.param(("--loop=uvloop",), "uvloop", marks=NEEDS_UVLOOP),
        pytest.param(("--no-adopt", "--loop", "uvloop"), "uvloop", marks=NEEDS_UVLOOP),
    ],
)
def test_loop_of_offloop_run_can_be_chosen(run_source, options, expected):
    ended = run_source(PROGRAM.format(start="asyncio.run(main())"), options=options)
    assert (ended.returncode, ended.stdout) == (0, f"{expected} 5\n"), ended.stderr


@NEEDS_UVLOOP
def test_programs_own_choice_wins(run_source):
    chosen = "import uvloop; asyncio.set_event_loop_policy(uvloop.EventLoopPolicy()); "
    ended = run_source(PROGRAM.format(start=chosen + "asyncio.run(main())"))
    assert ended.stdout == "uvloop 5\n", ended.stderr
    ended = run_source(
        PROGRAM.format(start="asyncio.SelectorEventLoop().run_until_complete(main())")
    )
    assert ended.stdout == "asyncio.unix_events 5\n", ended.stderr


GATHERS = """
import asyncio

async def main():
    print(asyncio.get_running_loop().gather_writes)

asyncio.run(main())
"""


def test_option_to_gather_writes_reaches_the_programs_loop(offloop_command, run_source):
    assert run_source(GATHERS, options=("--no-report",)).stdout == "False\n"
    ended = run_source(GATHERS, options=("--gather-writes", "--no-report"))
    assert ended.stdout == "True\n", ended.stderr
    ended = offloop_command("run", "--loop", "asyncio", "--gather-writes", "app.py")
    assert ended.returncode == 2
    assert "--gather-writes is for offloop's loop, not for asyncio's" in ended.stderr


def test_policy_and_factory_gather_writes_if_they_are_told_to():
    made = [
        offloop.EventLoopPolicy(gather_writes=True).new_event_loop(),
        offloop.new_event_loop(gather_writes=True),
        offloop.EventLoopPolicy().new_event_loop(),
    ]
    assert [loop.gather_writes for loop in made] == [True, True, False]
    for loop in made:
        loop.close()


def test_value_of_the_option_is_not_taken_for_the_program(offloop_command):
    ended = offloop_command("run", "--no-report", "--loop", "asyncio", "-m", "json.tool", "--help")
    assert ended.returncode == 0
    assert "--sort-keys" in ended.stdout
    ended = offloop_command("run", "--loop", "unheard-of", "app.py")
    assert ended.returncode == 2
    assert "'unheard-of' is not one of 'offloop', 'asyncio', 'uvloop'" in ended.stderr


def test_loop_that_is_not_installed_is_named_in_one_line(offloop_command, tmp_path):
    (tmp_path / "uvloop.py").write_text("raise ModuleNotFoundError('as if there were none')\n")
    (tmp_path / "app.py").write_text("print('must not run')\n")
    ended = offloop_command("run", "--loop", "uvloop", "app.py")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "offloop run: uvloop is not installed here\n"


def test_loop_that_was_never_made_has_nothing_to_close():
    # What its end would raise, pytest reports.
    with pytest.raises(TypeError, match="positional"):
        offloop.EventLoop(1)
    gc.collect()
