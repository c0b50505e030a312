"""Standing in front of asyncio and stepping aside; and what holds an object."""

import asyncio
import gc
import types
import weakref
from unittest import mock

import pytest

from _offloop_worker._offloop import Overheard, are_held
from losing import watching
from offloop._watch.hooks import Front
from offloop._watch.lost import LossWatch

METHODS = ("call_exception_handler", "close", "create_task")


def attributes(loop):
    """What a watch may stand in front of."""
    functions = [asyncio._set_running_loop, asyncio.events._set_running_loop]
    own = [vars(type(loop)).get(name) for name in METHODS]
    return [*functions, *own, set(vars(type(loop)))]


def test_all_is_as_before_when_the_watch_has_gone(make_loop):
    loop = make_loop()
    before = attributes(loop)
    with watching(loop):
        assert attributes(loop) != before
        assert not set(vars(loop) if hasattr(loop, "__dict__") else ()) & set(METHODS)
    assert attributes(loop) == before
    loop.close()


def test_a_mock_is_as_it_was_when_what_stood_in_front_has_gone():
    selector = mock.Mock()
    selector.select.return_value = []
    front = Front(selector, "select", lambda: "ours")
    assert selector.select() == "ours"
    front.step_aside()
    assert selector.select() == []


def test_watches_may_go_in_any_order(make_loop):
    loop = make_loop()
    before = attributes(loop)
    first, second = LossWatch(), LossWatch()
    first.install(loop)
    second.install(loop)
    first.remove()

    async def fail():
        raise ValueError

    async def main():
        task = loop.create_task(fail())
        del task
        for _ in range(3):
            await asyncio.sleep(0)

    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(main())
    second.remove()
    second.remove()
    loop.close()
    assert first.losses == []
    assert [loss.kind for loss in second.losses] == ["exception"]
    assert attributes(loop) == before


def test_watch_that_has_gone_may_come_again(make_loop):
    loop = make_loop()
    watch = LossWatch()
    for _ in range(2):
        watch.install(loop)
        watch.install(loop)
        watch.remove()
    assert watch.losses == []
    loop.close()


def test_loops_are_not_kept(make_loop):
    with watching():
        loop = make_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        reference = weakref.ref(loop)
        del loop
        gc.collect()
        assert reference() is None


def test_covered_one_goes_with_what_covers_it():
    owner = types.SimpleNamespace(name="own")
    first = Front(owner, "name", "first")
    second = Front(owner, "name", "second")
    first.step_aside()
    assert owner.name == "second"
    second.step_aside()
    assert owner.name == "own"


def test_overheard_call_is_heard_first():
    calls = []
    overheard = Overheard(
        lambda *args: calls.append(("listener", args)),
        lambda *args: calls.append(("function", args)) or "result",
    )
    assert overheard(1, 2) == "result"
    assert calls == [("listener", (1, 2)), ("function", (1, 2))]


def test_errors_of_an_overheard_function_are_the_callers():
    def refuse():
        raise LookupError

    with pytest.raises(LookupError):
        Overheard(lambda: None, refuse)()


class Node:
    """Refers to other objects."""

    def __init__(self, *others):
        self.others = list(others)


def circle(length=3):
    """Nodes in a circle, of which a weak reference to one is returned."""
    nodes = [Node() for _ in range(length)]
    for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        node.others.append(following)
    return weakref.ref(nodes[0])


@pytest.mark.usefixtures("no_collection")
def test_circle_is_not_held_by_itself():
    reference = circle()
    assert are_held([reference], []) == [False]
    assert are_held([reference, reference], []) == [False, False]


@pytest.mark.usefixtures("no_collection")
def test_circle_is_held_through_any_of_its_members():
    reference = circle()
    holder = reference().others[0].others[0]
    assert are_held([reference], []) == [True]
    del holder
    assert are_held([reference], []) == [False]


@pytest.mark.usefixtures("no_collection")
def test_object_that_is_held_holds_what_it_refers_to():
    reference, other = circle(), circle()
    reference().others.append(other())
    assert are_held([reference, other], []) == [False, False]
    holder = reference()
    assert are_held([reference, other], []) == [True, True]
    del holder
    holder = other()
    assert are_held([reference, other], []) == [False, True]
    assert holder is other()


@pytest.mark.usefixtures("no_collection")
def test_what_is_outside_holds():
    reference = circle()
    outside = Node(reference())
    reference().others.append(outside)
    assert are_held([reference], [outside]) == [True]
    reference().others.pop()
    del outside
    assert are_held([reference], []) == [False]


@pytest.mark.usefixtures("no_collection")
def test_more_objects_than_are_looked_at_count_as_held():
    reference = circle(30_000)
    assert are_held([reference], []) == [True]
    assert are_held([circle(100)], []) == [False]


def test_object_that_is_gone_is_not_held():
    reference = weakref.ref(Node())
    assert are_held([reference], []) == [False]


@pytest.mark.usefixtures("no_collection")
def test_functions_and_generators_of_a_circle_are_looked_into():
    def make():
        node = Node()

        def inner():
            return node

        def generator():
            yield inner
            yield node

        running = generator()
        next(running)
        node.others += [inner, running]
        return weakref.ref(node)

    reference = make()
    assert are_held([reference], []) == [False]
    holder = reference().others[1]
    assert are_held([reference], []) == [True]
    del holder
