"""One scenario with the watch and without it: what the program sees must be the same.

A scenario writes what happens into a list, in order. So do the loop's exception handler and what
gives warnings. The same scenario runs on a loop under watch and on one that is not.
"""

import asyncio
import contextlib
import gc
import re
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from _offloop_worker._offloop import TaskEnds
from offloop._watch.foreign import Announcements
from offloop._watch.losses import Loss
from offloop._watch.lost import LossWatch

Scenario = Callable[[list], Coroutine[Any, Any, None]]


@contextlib.contextmanager
def watching(*loops: asyncio.AbstractEventLoop, **options: Any) -> Iterator[LossWatch]:
    """A watch for as long as this lasts."""

    def look_through(loop: asyncio.AbstractEventLoop, ends: TaskEnds) -> bool:
        return announcements.look_through(loop, ends)

    watch = LossWatch(look_through=look_through, **options)
    announcements = Announcements(lambda _loop, _for_ever: None)
    try:
        announcements.set_threshold(0.004)
        announcements.install()
        watch.install(*loops)
        yield watch
    finally:
        watch.remove()
        announcements.remove()


def seen_in(make_loop: Callable[[], asyncio.AbstractEventLoop], scenario: Scenario) -> list:
    """What a program sees of a scenario, until all that is left of it is collected."""
    seen: list = []
    loop = make_loop()

    def report(_loop: Any, about: dict[str, Any]) -> None:
        of = about.get("task") or about.get("future")
        name = re.sub(r"^Task-\d+", "", of.get_name()) if isinstance(of, asyncio.Task) else ""
        seen.append(("report", about["message"], name, repr(about.get("exception"))))

    loop.set_exception_handler(report)
    # What was there before is not looked through when the rest of the scenario is collected.
    gc.freeze()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            loop.run_until_complete(scenario(seen))
        except RuntimeError as error:
            seen.append(("ended", str(error)))
        finally:
            loop.close()
            del loop, report
            seen.append("collected now")
            gc.collect()
            gc.unfreeze()
    seen += [(str(each.message), each.filename, each.lineno) for each in warned]
    return seen


def losses_of(
    make_loop: Callable[[], asyncio.AbstractEventLoop], scenario: Scenario, **options: Any
) -> list[Loss]:
    """What a watch finds in a scenario, in which the program sees no difference."""
    plain = seen_in(make_loop, scenario)
    with watching(**options) as watch:
        watched = seen_in(make_loop, scenario)
    assert watched == plain, f"plain:   {plain}\nwatched: {watched}"
    return watch.losses


def brief(losses: list[Loss]) -> list[tuple[str, str, str]]:
    """What was lost, when that was known, and the task's name or what it was."""
    return [(loss.kind, loss.moment, loss.task.name if loss.task else loss.what) for loss in losses]
