"""Values of loops, by the identity of these."""

import asyncio
import gc

from offloop._watch.per_loop import PerLoop


class Loop(asyncio.SelectorEventLoop):
    """A loop that must not be asked what it is like."""

    def __eq__(self, other):
        raise AssertionError("compared")

    __hash__ = None


def test_loops_are_told_apart_by_identity():
    values = PerLoop()
    loops = [Loop(), Loop()]
    for number, loop in enumerate(loops):
        values.set(loop, number)
    assert [values.get(loop) for loop in loops] == [0, 1]
    values.discard(loops[0])
    values.discard(loops[0])
    assert [values.get(loop) for loop in loops] == [None, 1]
    assert [value for _, value in values.items()] == [1]
    for loop in loops:
        loop.close()


def test_loop_that_is_gone_has_no_value():
    values = PerLoop()
    loop = Loop()
    loop.close()
    values.set(loop, "first")
    values.set(loop, "second")
    assert values.get(loop) == "second"
    del loop
    gc.collect()
    assert values.items() == []
    assert values._entries == {}
