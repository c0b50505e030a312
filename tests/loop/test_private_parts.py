"""Programs that take hold of the loop's private parts: queue, timers, selector, rounds.

They are written against the standard loop's attributes, so both loops must do the same with them.
"""

import asyncio
import collections
import dataclasses
import heapq
import selectors
import socket
import threading
from unittest import mock

import pytest

import offloop
from compared import compare
from steps import rounds

pytestmark = pytest.mark.quick


@pytest.fixture(params=[asyncio.SelectorEventLoop, offloop.EventLoop])
def base(request):
    """The class of a loop, to be a subclass's."""
    return request.param


def test_queue_may_be_read_reordered_and_added_to():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        for name in "abcd":
            loop.call_soon(seen.append, name)
        ready = loop._ready
        seen.append((len(ready), [handle._args for handle in ready]))
        ready.rotate(1)
        removed = ready.pop()
        ready.appendleft(asyncio.Handle(seen.append, ["made by hand"], loop))
        ready.append(removed)
        loop.call_soon(seen.append, "later")
        seen.append(len(loop._ready))
        await rounds(2)
        seen.append(len(ready))

    assert "made by hand" in compare(scenario)


class NotingQueue(collections.deque):
    """A queue that writes down what is put in and taken out, as tools do that watch a loop."""

    def __init__(self, items=(), seen=None):
        super().__init__(items)
        self.seen = seen

    def append(self, handle):
        self.seen.append("put in")
        super().append(handle)

    def popleft(self):
        self.seen.append("taken out")
        return super().popleft()


def test_queue_of_the_programs_own_kind_may_be_put_there():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        loop.call_soon(seen.append, "before")
        loop._ready = NotingQueue(loop._ready, seen)
        loop.call_soon(seen.append, "after")
        await rounds(2)
        seen.append(type(loop._ready).__name__)
        await asyncio.sleep(0.001)
        loop._ready = collections.deque(loop._ready)
        seen.append("the usual one")
        await rounds(3)

    assert "put in" in compare(scenario)


def test_queue_may_be_a_new_one_and_what_waited_in_the_old_one_is_dropped():
    def seen_on(make):
        seen = []
        loop = make()
        loop.call_soon(seen.append, "dropped")
        loop.call_later(0, seen.append, "dropped too")
        loop._ready = collections.deque()
        loop._scheduled = []
        loop.call_soon(seen.append, "later")
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        return seen

    ours, standard = map(seen_on, (offloop.new_event_loop, asyncio.SelectorEventLoop))
    assert ours == standard == ["later"]


def test_heap_of_the_programs_own_kind_stays_for_as_long_as_it_is_there():
    class Heap(list):
        pass

    async def scenario(seen):
        loop = asyncio.get_running_loop()
        loop.call_later(0.001, seen.append, "in time")
        loop._scheduled = Heap(loop._scheduled)
        await asyncio.sleep(0.002)
        seen.append(type(loop._scheduled).__name__)

    assert compare(scenario) == ["in time", "Heap"]


@pytest.mark.parametrize("value", [1, 0, None, "yes", ()])
@pytest.mark.parametrize("name", ["_closing", "_paused", "_eof", "_protocol_paused"])
def test_flags_of_a_stream_may_be_any_object(name, value):
    async def scenario(seen):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        setattr(transport, name, value)
        seen.append((bool(getattr(transport, name)), bool(transport.is_reading())))
        setattr(transport, name, False)
        transport.abort()
        theirs.close()
        await asyncio.sleep(0)

    assert compare(scenario)[0][0] is bool(value)


@pytest.mark.parametrize("value", [1, 0, None, "yes", ()])
@pytest.mark.parametrize("name", ["_closed", "_stopping", "_debug"])
def test_flags_of_a_loop_may_be_any_object(loop, name, value):
    setattr(loop, name, value)
    assert bool(getattr(loop, name)) is bool(value)
    setattr(loop, name, False)
    loop.run_until_complete(asyncio.sleep(0))


def test_timers_are_a_heap_that_may_be_changed():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        # A whole number, so that what is added can be subtracted again.
        now = float(int(loop.time()))
        timers = [loop.call_at(now + late, seen.append, late) for late in (60, 30, 90, 45)]
        heap = loop._scheduled
        seen.append((type(heap), len(heap), heap[0] is timers[1], heap[0]._when - now))
        timers[3].cancel()
        seen.append((loop._timer_cancelled_count, [timer._scheduled for timer in timers]))
        loop._ready.append(heapq.heappop(heap))
        await rounds(2)
        heapq.heappush(heap, asyncio.TimerHandle(now, seen.append, ["by hand"], loop))
        await rounds(2)
        seen.append(sorted(timer._when - now for timer in heap))
        del heap
        await rounds(2)
        seen.append(sorted(timer._when - now for timer in loop._scheduled))
        loop._scheduled.clear()
        loop._timer_cancelled_count = 0
        loop.call_later(0, seen.append, "after all")
        await asyncio.sleep(0.001)

    seen = compare(scenario)
    assert "by hand" in seen
    assert "after all" in seen


def test_timers_that_were_looked_at_run_in_their_order():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        now = loop.time()
        order = (5, 1, 4, 2, 3, 9, 8, 7, 6)
        timers = [loop.call_at(now + late / 1e4, seen.append, late) for late in order]
        seen.append(len(loop._scheduled))
        timers[4].cancel()
        await asyncio.sleep(0.002)
        seen.append([timer.cancelled() for timer in timers])

    assert compare(scenario)[1:9] == [1, 2, 4, 5, 6, 7, 8, 9]


def test_many_cancelled_timers_are_swept_also_while_the_program_has_the_heap():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        heap = loop._scheduled
        for timer in [loop.call_later(60, abs, 1) for _ in range(300)]:
            timer.cancel()
        seen.append(loop._timer_cancelled_count)
        await rounds(2)
        seen.append((loop._timer_cancelled_count, len(loop._scheduled), heap is loop._scheduled))
        await asyncio.sleep(0.001)

    assert compare(scenario)[-1] == (0, 0, False)


def test_streams_and_sockets_go_on_while_the_program_has_the_queue():
    async def scenario(seen):
        async def answer(reader, writer):
            while line := await reader.readline():
                writer.write(line.upper())
            writer.close()
            answered.set_result(asyncio.current_task())

        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        held = loop._ready, loop._scheduled
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        one, two = socket.socketpair()
        for end in (one, two):
            end.setblocking(False)
        for number in range(3):
            writer.write(b"line %d\n" % number)
            waiting = asyncio.create_task(loop.sock_recv(one, 100))
            await rounds(2)
            two.send(b"packet")
            seen.append((await reader.readline(), await waiting))
            seen.append(await asyncio.to_thread(abs, -number))
            if number == 1:
                held = None
        seen.append(held)
        try:
            await asyncio.wait_for(reader.readline(), 0.001)
        except TimeoutError:
            seen.append("timeout")
        writer.close()
        await writer.wait_closed()
        await (await answered)
        server.close()
        await server.wait_closed()
        one.close()
        two.close()

    assert "timeout" in compare(scenario)


def test_callback_that_looks_at_the_queue_changes_no_order():
    async def scenario(seen):
        loop = asyncio.get_running_loop()

        def look(name, again):
            seen.append((name, len(loop._ready)))
            if again:
                loop.call_soon(look, f"{name} again", False)

        for name in "abc":
            loop.call_soon(look, name, True)
        loop.call_later(0, seen.append, "timer")
        await rounds(4)

    compare(scenario)


class Skipping:
    """A clock that jumps to the next timer instead of waiting for it, as aiotools has one."""

    def __init__(self, loop):
        self.now = 0.0
        self.wait = loop._selector.select
        self.timeouts = []

    def time(self):
        return self.now

    def select(self, timeout=None):
        self.timeouts.append(timeout is None or round(timeout, 3))
        if timeout is not None:
            self.now += timeout
        return self.wait(0)


def test_selector_may_be_given_a_clock_that_jumps():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        before = loop.time()
        clock = Skipping(loop)
        with (
            mock.patch.object(loop._selector, "select", clock.select),
            mock.patch.object(loop, "_clock_resolution", 0.001),
            mock.patch.object(loop, "time", clock.time),
        ):
            for late in (30, 10, 20):
                loop.call_later(late, seen.append, late)
            await asyncio.sleep(100)
            seen.append(loop.time())
        seen.append(0 <= loop.time() - before < 50)
        seen.append(clock.timeouts)
        asked = len(clock.timeouts)
        await asyncio.sleep(0.001)
        seen.append(len(clock.timeouts) == asked)

    assert compare(scenario)[:6] == [10, 20, 30, 100, True, [10.0, 10.0, 10.0, 70.0, 0]]


@pytest.mark.parametrize("where", ["selector", "its select", "loop", "class"])
def test_what_is_replaced_during_a_run_counts_from_the_next_round(where, base):
    class Own(base):
        pass

    loop = Own()
    calls = []

    def replace():
        selector, select, run_once = loop._selector, loop._selector.select, loop._run_once

        def counted(*arguments):
            calls.append(where)
            return (select if "select" in where else run_once)(*arguments)

        if where == "selector":
            loop._selector = mock.Mock(wraps=selector, select=counted)
        elif where == "its select":
            selector.select = counted
        elif where == "loop":
            loop._run_once = counted
        else:
            Own._run_once = lambda self: counted()

    async def main():
        await rounds(2)
        replace()
        await rounds(5)

    loop.run_until_complete(main())
    loop.close()
    # The last round is that in which the loop is stopped.
    assert len(calls) == 6


def test_round_written_against_the_standard_loop_runs_ours(base):
    class Own(base):
        def _run_once(self):
            timeout = 0 if self._ready or self._stopping else None
            while self._scheduled and self._scheduled[0]._cancelled:
                self._timer_cancelled_count -= 1
                heapq.heappop(self._scheduled)._scheduled = False
            if timeout is None and self._scheduled:
                timeout = max(0, self._scheduled[0].when() - self.time())
            events = self._selector.select(timeout)
            kinds.update(type(key) for key, _ in events)
            self._process_events(events)
            while self._scheduled and self._scheduled[0]._when < self.time():
                timer = heapq.heappop(self._scheduled)
                timer._scheduled = False
                self._ready.append(timer)
            for _ in range(len(self._ready)):
                handle = self._ready.popleft()
                if not handle._cancelled:
                    handle._run()

    async def main():
        loop = asyncio.get_running_loop()
        one, two = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=one)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=two)
        transport.write(b"hello\n")
        seen = [await reader.readline()]
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(transport.close,))
        loop.call_later(0.001, thread.start)
        seen.append(await reader.read())
        seen.append(await asyncio.wait_for(asyncio.sleep(0.001, "slept"), 60))
        thread.join()
        writer.close()
        await writer.wait_closed()
        return seen

    kinds = set()
    loop = Own()
    assert loop.run_until_complete(main()) == [b"hello\n", b"", "slept"]
    assert kinds == {selectors.SelectorKey}
    loop.close()


def test_what_a_program_holds_of_a_closed_loop_is_empty(make_loop):
    loop = make_loop()
    ready, heap = loop._ready, loop._scheduled
    handles = [loop.call_soon(abs, 1), loop.call_later(60, abs, 1)]
    assert (len(loop._ready), len(loop._scheduled)) == (1, 1)
    loop.close()
    assert (len(ready), len(heap)) == (0, 0)
    assert (len(loop._ready), len(loop._scheduled)) == (0, 0)
    for handle in handles:
        handle.cancel()


def test_loop_goes_back_to_its_own_rounds(our_loop):
    # Which do not ask the selector.
    selector = type(our_loop._selector)
    with mock.patch.object(
        selector, "select", autospec=True, side_effect=selector.select
    ) as counted:
        ready = our_loop._ready
        our_loop.run_until_complete(rounds(3))
        held = counted.call_count
        del ready
        our_loop.run_until_complete(rounds(3))
        assert (held > 0, counted.call_count) == (True, held)
        our_loop._scheduled.append(asyncio.TimerHandle(0, abs, [1], our_loop))
        our_loop.run_until_complete(rounds(3))
        # One round, in which the foreign timer fires.
        assert counted.call_count == held + 1


def test_subclass_with_other_timers_is_served(base):
    class Own(base):
        def call_at(self, when, callback, *args, context=None):
            timer = asyncio.TimerHandle(when, callback, args, self, context)
            heapq.heappush(self._scheduled, timer)
            timer._scheduled = True
            return timer

    loop = Own()
    seen = []
    loop.call_later(0.002, seen.append, 2)
    loop.call_later(0.001, seen.append, 1)
    cancelled = loop.call_later(0.001, seen.append, "cancelled")
    cancelled.cancel()
    loop.run_until_complete(asyncio.sleep(0.003))
    assert seen == [1, 2]
    loop.close()


def test_selector_finds_what_is_ready_and_leaves_it(our_loop):
    one, two = socket.socketpair()
    one.setblocking(False)
    seen = []
    our_loop.add_reader(one, lambda: seen.append(one.recv(9)))
    selector = our_loop._selector
    assert selector.select(0) == []
    two.send(b"x")
    for _ in range(2):
        [(key, events)] = selector.select(60)
        assert (key.fd, key.events, events) == (one.fileno(), 1, selectors.EVENT_READ)
        assert key == selector.get_key(one.fileno())
    assert isinstance(our_loop, offloop.EventLoop)
    our_loop.call_soon(our_loop.stop)
    our_loop.run_forever()
    assert seen == [b"x"]
    our_loop.remove_reader(one)
    one.close()
    two.close()


def test_statistics_cross_by_the_names_of_their_fields(our_loop):
    crossed = our_loop._statistics()
    for values, record in (
        (crossed, offloop.LoopStatistics),
        (crossed["lag"], offloop.LagHistogram),
        (crossed["timer_lag"], offloop.LagHistogram),
    ):
        assert list(values) == [field.name for field in dataclasses.fields(record)]


def test_statistics_count_what_the_program_has(our_loop):
    for _ in range(3):
        our_loop.call_soon(abs, 1)
    timers = [our_loop.call_later(60, abs, 1) for _ in range(5)]
    timers[0].cancel()
    held = our_loop._ready
    our_loop._scheduled.sort()
    our_loop.call_soon(abs, 1)
    statistics = our_loop.statistics()
    assert (statistics.ready, statistics.timers, len(held)) == (4, 4, 3)
    our_loop.run_until_complete(rounds(2))
    assert our_loop.statistics().callbacks >= 4
