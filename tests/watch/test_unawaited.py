"""Coroutines that were never awaited: counted by name and line, warned of as ever."""

import asyncio
import sys
import warnings

import pytest

from losing import losses_of, watching
from offloop._watch import lost
from watch_programs import TOUCHED, Hostile, line_of


async def fetch(*_arguments):
    """Never awaited."""


def unawaited_in(scenario):
    """What a watch finds in a function, and the warnings; these are the same without the watch."""
    plain = warned_in(scenario)
    with watching() as watch:
        assert warned_in(scenario) == plain
    return watch, plain


def warned_in(scenario):
    """The warnings in a function: texts and places."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        scenario()
    return [(str(each.message), each.category, each.filename, each.lineno) for each in warned]


def test_line_that_forgets_to_await_is_named():
    def scenario():
        fetch()  # forgets

    watch, warned = unawaited_in(scenario)
    line = line_of(__file__, "forgets")
    (loss,) = watch.losses
    assert (loss.kind, loss.moment, loss.what, loss.task) == (
        "unawaited",
        "collected",
        "fetch",
        None,
    )
    assert (loss.where.filename, loss.where.line) == (__file__, line)
    assert loss.made == loss.where
    text = "coroutine 'fetch' was never awaited"
    assert [(each[0].splitlines()[-1], *each[1:]) for each in warned] == [
        (text, RuntimeWarning, __file__, line)
    ]


def test_each_line_is_told_of_once_and_counted():
    def scenario():
        for _ in range(5):
            fetch()  # in a loop
        fetch()  # once more

    told = []
    with watching(told=told.append) as watch:
        warned_in(scenario)
        warned_in(scenario)
    lines = [line_of(__file__, "in a loop"), line_of(__file__, "once more")]
    assert [loss.where.line for loss in told] == lines
    counts = {(name, place.line): count for (name, place), count in watch.unawaited().items()}
    assert counts == {("fetch", lines[0]): 10, ("fetch", lines[1]): 2}


def test_line_that_lets_go_of_what_another_has_made_is_not_said_to_have_made_it():
    def scenario():
        let_go([fetch(1)])

    def let_go(kept):
        kept.clear()  # lets go

    watch, _ = unawaited_in(scenario)
    (loss,) = watch.losses
    assert (loss.where.line, loss.made) == (line_of(__file__, "lets go"), None)


def test_line_that_has_made_it_is_known_where_origins_are_tracked():
    def scenario():
        let_go([fetch(1)])  # makes it

    def let_go(kept):
        kept.clear()

    sys.set_coroutine_origin_tracking_depth(1)
    try:
        watch, _ = unawaited_in(scenario)
    finally:
        sys.set_coroutine_origin_tracking_depth(0)
    (loss,) = watch.losses
    assert loss.made.line == line_of(__file__, "makes it")


def test_origins_are_not_tracked_by_the_watch():
    with watching():
        assert sys.get_coroutine_origin_tracking_depth() == 0


def test_coroutine_on_a_loop(make_loop):
    async def scenario(seen):
        fetch()  # on a loop
        seen.append("went on")

    (loss,) = losses_of(make_loop, scenario)
    assert (loss.what, loss.where.line) == ("fetch", line_of(__file__, "on a loop"))


def test_warning_that_is_an_error_stays_one(make_loop, monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda about: unraisable.append(about.exc_value))

    def scenario():
        fetch()

    with watching() as watch, warnings.catch_warnings():
        warnings.simplefilter("error")
        scenario()
    assert [type(error) for error in unraisable] == [RuntimeWarning]
    assert len(watch.losses) == 1


def test_coroutine_that_is_awaited_or_closed_is_no_loss(make_loop):
    async def scenario(seen):
        await fetch()
        coroutine = fetch()
        coroutine.close()
        await asyncio.gather(fetch(), fetch())

    assert losses_of(make_loop, scenario) == []


def test_names_of_a_program_are_not_run():
    TOUCHED.clear()

    class Text(str):
        __slots__ = ()

    def scenario():
        coroutine = fetch(Hostile())
        coroutine.__name__ = coroutine.__qualname__ = Text("changed")

    watch, _ = unawaited_in(scenario)
    assert [loss.what for loss in watch.losses] == ["?"]
    assert TOUCHED == []


def test_many_lines_are_counted_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(lost, "UNAWAITED_MAX", 2)
    monkeypatch.setattr(lost, "LOSSES_MAX", 3)
    told = []
    with watching(told=told.append) as watch:
        for number in range(5):
            source = f"async def coroutine_{number}(): pass\ncoroutine_{number}()"
            warned_in(lambda source=source: exec(source, {}))
    names = [f"coroutine_{number}" for number in range(5)]
    assert [name for name, _ in watch.unawaited()] == names[:2]
    assert [loss.what for loss in told] == names
    assert [loss.what for loss in watch.losses] == names[:3]
    assert watch.left_out == 2


@pytest.mark.parametrize("again", [False, True])
def test_what_stands_in_front_of_the_warning_is_gone_afterwards(again):
    before = warnings._warn_unawaited_coroutine
    for _ in range(1 + again):
        with watching():
            assert warnings._warn_unawaited_coroutine is not before
        assert warnings._warn_unawaited_coroutine is before
