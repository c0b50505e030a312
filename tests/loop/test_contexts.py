"""Contexts: callbacks share them only where a program cannot tell."""

import asyncio
import contextvars
import gc
import random

import pytest

import offloop

SEEDS = range(40)
CALLBACKS = 400
MANY = 1000
VARIABLE: contextvars.ContextVar[object] = contextvars.ContextVar("variable", default="outside")


class RandomSetter:
    """A program whose callbacks set, reset, look and schedule at random, and keep few handles."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: int) -> None:
        self.loop = loop
        self.random = random.Random(seed)
        self.trace: list[tuple] = []
        self.kept: list[asyncio.Handle] = []
        self.tokens: list[contextvars.Token] = []
        self.left = CALLBACKS
        self.waiting = 0

    def run(self) -> list[tuple]:
        """Run until nothing is scheduled any more."""
        for _ in range(20):
            self.schedule()
        self.loop.run_forever()
        return self.trace

    def callback(self, name: int) -> None:
        """Note what the variable is, then do something at random."""
        self.waiting -= 1
        self.trace.append((name, VARIABLE.get()))
        for _ in range(self.random.randrange(4)):
            self.act(name)
        if self.waiting == 0:
            self.loop.stop()

    def act(self, name: int) -> None:
        """One random thing."""
        choice = self.random.random()
        if choice < 0.5:
            self.schedule()
        elif choice < 0.65:
            VARIABLE.set(name)
        elif choice < 0.75:
            self.tokens.append(VARIABLE.set(("kept", name)))
        elif choice < 0.85 and self.tokens:
            self.reset(self.tokens.pop())
        elif choice < 0.95 and self.kept:
            context = self.random.choice(self.kept)._context
            self.trace.append(("context", name, context.get(VARIABLE, "nothing")))
        else:
            contextvars.copy_context().run(self.schedule)

    def reset(self, token: contextvars.Token) -> None:
        """Reset the variable, which only the context of the token allows."""
        try:
            VARIABLE.reset(token)
        except ValueError as error:
            self.trace.append((str(error).split(" at ")[0].split(">")[-1], VARIABLE.get()))
        else:
            self.trace.append(("reset", VARIABLE.get()))

    def schedule(self) -> None:
        """Schedule a few callbacks beside each other, and keep some of their handles."""
        for _ in range(self.random.randrange(1, 4)):
            if self.left:
                self.left -= 1
                self.waiting += 1
                handle = self.loop.call_soon(self.callback, self.left)
                if self.random.random() < 0.2:
                    self.kept.append(handle)


@pytest.mark.quick
@pytest.mark.parametrize("seed", SEEDS)
def test_variables_are_as_if_every_callback_had_its_own_context(seed):
    traces = []
    for make_loop in (asyncio.SelectorEventLoop, offloop.new_event_loop):
        loop = make_loop()
        traces.append(RandomSetter(loop, seed).run())
        loop.close()
    assert traces[1] == traces[0]


@pytest.mark.quick
def test_each_handle_shows_a_context_of_its_own(loop):
    handles = [loop.call_soon(VARIABLE.set, number) for number in range(3)]
    timers = [loop.call_later(0, VARIABLE.set, number) for number in range(3)]
    contexts = [handle._context for handle in handles[1:] + timers[1:]]
    assert len({id(context) for context in contexts}) == 4
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert [context[VARIABLE] for context in contexts] == [1, 2, 1, 2]
    # These were asked for after the run only.
    assert handles[0]._context[VARIABLE] == timers[0]._context[VARIABLE] == 0


@pytest.mark.quick
def test_what_waits_beside_each_other_needs_one_context(our_loop):
    def contexts():
        gc.collect()
        return sum(type(each) is contextvars.Context for each in gc.get_objects())

    before = contexts()
    for _ in range(MANY):
        our_loop.call_soon(print)
        our_loop.call_later(60, print)
    assert contexts() - before <= 2


@pytest.mark.quick
def test_context_that_a_callback_has_left_holds_nothing_when_the_loop_sleeps(our_loop):
    """A chain of callbacks stays in one context, which must go before the loop waits."""

    class Value:
        alive = 0

        def __init__(self):
            Value.alive += 1

        def __del__(self):
            Value.alive -= 1

    seen = []

    def look():
        seen.append(Value.alive)
        our_loop.stop()

    our_loop.call_soon(lambda: VARIABLE.set(Value()) and None)
    our_loop.call_later(0.01, look)
    our_loop.run_forever()
    assert seen == [0]


@pytest.mark.quick
@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
def test_handler_hears_of_a_task_that_ends_unseen_in_the_context_of_the_task(run, given):
    heard = []

    def handler(_loop, about):
        heard.append((about["message"], type(about["exception"]), VARIABLE.get()))

    async def fail():
        VARIABLE.set("the task's")
        await asyncio.sleep(0)
        raise LookupError

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(handler)
        context = contextvars.copy_context() if given else None
        task = loop.create_task(fail(), context=context)
        # Nothing but the loop has it.
        del task
        for _ in range(4):
            await asyncio.sleep(0)

    run(main())
    # From Python 3.12 on the handler is called in the context of the task.
    seen = "the task's" if hasattr(asyncio.Task, "get_context") else "outside"
    assert heard == [("Task exception was never retrieved", LookupError, seen)]
