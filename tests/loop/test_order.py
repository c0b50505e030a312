"""What runs when, and in which context: exactly as on the standard loop.

The random programs run on a clock that a callback moves by one at every round, so a round is the
unit of time, nothing waits, and two loops can be compared event by event.
"""

import asyncio
import contextvars
import random
import socket

import pytest

import offloop

SEEDS = range(60)
ROUNDS = 60
ACTIONS_PER_CALLBACK = 3
VARIABLE: contextvars.ContextVar[object] = contextvars.ContextVar("variable", default="outside")


class RandomProgram:
    """A program whose callbacks schedule, cancel, raise and stop at random, on a clock of rounds.

    The same seed makes the same decisions, as long as the callbacks come in the same order.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: int) -> None:
        self.loop = loop
        self.random = random.Random(seed)
        self.now = 0.0
        self.trace: list[tuple] = []
        self.handles: list[asyncio.Handle] = []
        self.contexts = [contextvars.copy_context() for _ in range(3)]
        self.names = 0
        loop.time = lambda: self.now
        loop.set_exception_handler(self.note_exception)

    def run(self) -> list[tuple]:
        """Run to the last round, going on after each stop in the middle."""
        for _ in range(5):
            self.schedule()
        self.loop.call_soon(self.move_clock)
        while self.now < ROUNDS:
            self.loop.run_forever()
            self.trace.append(("stopped", self.now))
        return self.trace

    def move_clock(self) -> None:
        """Begin another round, and see to it that the program does not die out."""
        self.now += 1
        self.schedule()
        self.schedule()
        if self.now < ROUNDS:
            self.loop.call_soon(self.move_clock)
        else:
            self.loop.stop()

    def note_exception(self, loop, context) -> None:
        """The loop's exception handler."""
        self.trace.append(("handler", context["message"].split(" at ")[0], context["exception"]))

    def callback(self, name: int) -> None:
        """Note the call and the context's variable, then do something at random."""
        self.trace.append((name, self.now, VARIABLE.get()))
        for _ in range(self.random.randrange(ACTIONS_PER_CALLBACK)):
            self.act()

    def act(self) -> None:
        """One random thing."""
        choice = self.random.random()
        if choice < 0.6:
            self.schedule()
        elif choice < 0.8:
            self.random.choice(self.handles).cancel()
        elif choice < 0.9:
            VARIABLE.set(self.names)
        elif choice < 0.95:
            self.loop.stop()
        else:
            raise LookupError(self.names)

    def schedule(self) -> None:
        """Schedule another callback, in a random way."""
        self.names += 1
        name = self.names
        options = {}
        if self.random.random() < 0.3:
            options["context"] = self.random.choice(self.contexts)
        # No two timers have the same time: the standard heap promises nothing about those.
        delay = self.random.randrange(-1, 6) + name * 1e-6
        schedule = self.random.choice(
            [
                lambda: self.loop.call_soon(self.callback, name, **options),
                lambda: self.loop.call_soon_threadsafe(self.callback, name, **options),
                lambda: self.loop.call_later(delay, self.callback, name, **options),
                lambda: self.loop.call_at(self.now + delay, callback=self.callback_of(name)),
            ]
        )
        self.handles.append(schedule())

    def callback_of(self, name: int):
        """The callback as a function without arguments."""
        return lambda: self.callback(name)


def trace_of(make, seed: int) -> list[str]:
    """What a program of this seed does on a loop."""
    loop = make()
    try:
        return [repr(event) for event in RandomProgram(loop, seed).run()]
    finally:
        loop.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_random_program_runs_in_the_standard_order(seed):
    expected = trace_of(asyncio.SelectorEventLoop, seed)
    assert len(expected) > ROUNDS
    assert trace_of(offloop.EventLoop, seed) == expected


def test_callbacks_run_in_the_order_in_which_they_were_scheduled(loop):
    order = []
    for number in range(1000):
        schedule = loop.call_soon if number % 2 else loop.call_soon_threadsafe
        schedule(order.append, number)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert order == list(range(1000))


def test_what_a_callback_schedules_runs_in_the_next_round(loop):
    order = []

    def first():
        order.append("first")
        loop.call_soon(order.append, "scheduled by first")

    loop.call_soon(first)
    loop.call_soon(loop.stop)
    loop.call_soon(order.append, "after stop")
    loop.run_forever()
    assert order == ["first", "after stop"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert order == ["first", "after stop", "scheduled by first"]


def test_stop_before_the_run_runs_one_round(loop):
    order = []
    loop.call_soon(order.append, "ready")
    loop.stop()
    loop.run_forever()
    assert order == ["ready"]


def test_timers_of_the_same_time_run_in_the_order_of_their_scheduling(our_loop):
    order = []
    when = our_loop.time()
    for number in range(500):
        our_loop.call_at(when, order.append, number)
    our_loop.call_later(0.001, our_loop.stop)
    our_loop.run_forever()
    assert order == list(range(500))


@pytest.mark.parametrize("delay", [0, -1, -1e9, 0.0, False])
def test_delay_of_nothing_or_less_runs_at_once(loop, delay):
    loop.call_later(delay, loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("when", [float("inf"), 1e300])
def test_time_that_never_comes_keeps_no_loop_from_working(loop, when):
    timer = loop.call_at(when, pytest.fail)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    timer.cancel()


def test_time_that_is_no_number_harms_no_timer(our_loop):
    # The standard loop cannot wait any more once it has such a timer.
    timer = our_loop.call_at(float("nan"), pytest.fail)
    our_loop.call_later(0.001, our_loop.stop)
    our_loop.run_forever()
    timer.cancel()


def test_callbacks_see_the_context_in_which_they_were_scheduled(loop):
    seen = []

    def look_and_change(name):
        seen.append((name, VARIABLE.get()))
        VARIABLE.set(f"changed by {name}")

    token = VARIABLE.set("before")
    loop.call_soon(look_and_change, "one")
    VARIABLE.reset(token)
    loop.call_soon(look_and_change, "two")
    loop.call_later(0, look_and_change, "three")
    own = contextvars.copy_context()
    own.run(VARIABLE.set, "own")
    loop.call_soon(look_and_change, "four", context=own)
    loop.call_soon(look_and_change, "five", context=own)
    loop.call_soon(look_and_change, "six", context=None)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert sorted(seen) == sorted(
        [
            ("one", "before"),
            ("two", "outside"),
            ("three", "outside"),
            ("four", "own"),
            ("five", "changed by four"),
            ("six", "outside"),
        ]
    )
    assert own[VARIABLE] == "changed by five"
    assert VARIABLE.get() == "outside"


def test_context_is_left_between_callbacks_that_share_it(loop):
    context = contextvars.copy_context()
    seen = []

    def enter_again():
        with pytest.raises(RuntimeError, match="already entered"):
            context.run(print)
        raise LookupError("leaves it too")

    loop.set_exception_handler(
        # The handler runs in the context of the callback, which must be free to be entered.
        lambda loop, about: seen.append(type(about["exception"]).__name__)
    )
    loop.call_soon(enter_again, context=context)
    loop.call_soon(enter_again, context=context)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["LookupError", "LookupError"]
    context.run(seen.append, "free")
    assert seen[-1] == "free"


def test_context_that_is_entered_elsewhere_fails_that_callback_alone(loop, caplog):
    problems, order = [], []
    loop.set_exception_handler(lambda loop, about: problems.append(about["exception"]))
    context = contextvars.copy_context()
    loop.call_soon(order.append, "inside", context=context)
    loop.call_soon(order.append, "next")
    loop.call_soon(loop.stop)
    context.run(loop.run_forever)
    # From Python 3.12 on the handler, too, would run in that context, and so the log hears of it.
    assert "already entered" in f"{problems} {caplog.text}"
    assert order == ["next"]


def test_protocol_is_called_in_the_context_of_its_connection(run):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []

        class Protocol(asyncio.Protocol):
            def data_received(self, data):
                seen.append(VARIABLE.get())
                VARIABLE.set(len(seen))

            def connection_lost(self, exc):
                seen.append(VARIABLE.get())
                done.set_result(None)

        done = loop.create_future()
        ours, theirs = socket.socketpair()
        VARIABLE.set("connected")
        await loop.create_connection(Protocol, sock=ours)
        VARIABLE.set("later")
        for _ in range(3):
            theirs.send(b"x")
            for _ in range(5):
                await asyncio.sleep(0.001)
        theirs.close()
        await done
        return seen

    assert run(main()) == ["connected", 1, 2, 3]


def test_patched_clock_moves_the_timers(loop):
    now = 1000.0
    loop.time = lambda: now
    seen = []

    def move():
        nonlocal now
        now += 50
        seen.append("moved")
        loop.call_soon(loop.call_soon, loop.stop)

    timer = loop.call_later(40, seen.append, "timer")
    assert timer.when() == 1040.0
    loop.call_soon(move)
    loop.run_forever()
    assert seen == ["moved", "timer"]


def test_ready_chain_does_not_starve_a_socket_or_a_timer(loop):
    ours, theirs = socket.socketpair()
    seen = set()

    def chain():
        if seen != {"socket", "timer"}:
            loop.call_soon(chain)
        else:
            loop.stop()

    def read():
        seen.add(ours.recv(1) and "socket")

    loop.add_reader(ours, read)
    loop.call_later(0.002, seen.add, "timer")
    loop.call_soon(theirs.send, b"x")
    loop.call_soon(chain)
    loop.run_forever()
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


def test_socket_that_is_always_ready_does_not_starve_callbacks(loop):
    ours, theirs = socket.socketpair()
    reads = 0

    def read():
        nonlocal reads
        reads += 1

    loop.add_reader(ours, read)
    theirs.send(b"never read")
    for _ in range(100):
        loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0.002))
    assert reads >= 1
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("late", [0, 40, 2000], ids=["all due", "most due", "none due"])
def test_many_timers_due_at_once_run_in_their_order(our_loop, late):
    # In the standard loop those of the same time run in no order.
    choices = random.Random(late)
    start = our_loop.time() - 1
    timers = [(start + choices.randrange(500) / 1000, number) for number in range(2000)]
    for index in range(late):
        timers[index] = (timers[index][0] + 1.005, timers[index][1])
    choices.shuffle(timers)
    ran = []
    for order, (when, number) in enumerate(timers):
        our_loop.call_at(when, ran.append, (when, order, number))
    cancelled = [our_loop.call_at(start + choices.random(), pytest.fail) for _ in range(50)]
    for timer in cancelled:
        timer.cancel()
    our_loop.call_at(start + 1.6, our_loop.stop)
    our_loop.run_forever()
    assert len(ran) == 2000
    assert ran == sorted(ran)
