"""What a loop tells of itself is what happened: counts are exact, times add up."""

import asyncio
import dataclasses
import gc
import json
import random
import socket
import threading
import time

import pytest

import offloop
from steps import turn

BLOCK_SECONDS = 0.03


def block():
    """Stop the loop for a while."""
    time.sleep(BLOCK_SECONDS)


def test_new_loop_has_done_nothing(our_loop):
    # One descriptor is its own: signals wake the loop through it.
    assert our_loop.statistics() == offloop.LoopStatistics(descriptors=1)


def test_record_cannot_be_changed_and_is_plain_data(our_loop):
    our_loop.call_soon(block)
    turn(our_loop)
    statistics = our_loop.statistics()
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics.callbacks = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics.lag.p50 = 0.0
    plain = json.loads(json.dumps(dataclasses.asdict(statistics)))
    assert plain["lag"]["max"] == statistics.lag.max
    assert plain["callbacks"] == 2


def test_callbacks_rounds_and_depth_are_counted(our_loop):
    for _ in range(10):
        our_loop.call_soon(int)
    assert our_loop.statistics().ready == 10
    turn(our_loop)
    statistics = our_loop.statistics()
    assert (statistics.callbacks, statistics.rounds, statistics.polls) == (11, 1, 1)
    assert (statistics.ready, statistics.ready_max) == (0, 11)
    left = 50

    def go_on():
        nonlocal left
        left -= 1
        our_loop.call_soon(go_on if left else our_loop.stop)

    our_loop.call_soon(go_on)
    our_loop.run_forever()
    statistics = our_loop.statistics()
    assert (statistics.callbacks, statistics.rounds) == (11 + 51, 1 + 51)
    assert statistics.ready_max == 11


def test_timers_are_counted_when_they_fire_and_not_when_they_are_cancelled(our_loop):
    timers = [our_loop.call_later(0.001, int) for _ in range(5)]
    our_loop.call_later(3600, int)
    assert our_loop.statistics().timers == 6
    timers[0].cancel()
    assert our_loop.statistics().timers == 5
    our_loop.call_later(0.002, our_loop.stop)
    our_loop.run_forever()
    statistics = our_loop.statistics()
    assert (statistics.timers, statistics.timers_fired) == (1, 5)
    assert statistics.timer_lag.count == 5


def test_timer_behind_a_callback_that_blocks_is_late(our_loop):
    our_loop.call_later(BLOCK_SECONDS / 3, our_loop.stop)
    our_loop.call_soon(block)
    our_loop.run_forever()
    lag = our_loop.statistics().timer_lag
    assert lag.count == 1
    assert lag.max >= BLOCK_SECONDS / 3


def test_timer_that_is_scheduled_for_the_past_is_not_late_since_then(our_loop):
    our_loop.call_at(our_loop.time() - 1e6, int)
    our_loop.call_soon(our_loop.call_at, our_loop.time() - 1e6, our_loop.stop)
    our_loop.run_forever()
    statistics = our_loop.statistics()
    assert statistics.timer_lag.count == 2
    assert statistics.timer_lag.max <= statistics.running_seconds


def test_lag_by_a_clock_of_the_programs_own_is_not_told(our_loop):
    our_loop.time = lambda: 1000.0
    our_loop.call_later(0, our_loop.stop)
    our_loop.run_forever()
    statistics = our_loop.statistics()
    assert (statistics.timers_fired, statistics.timer_lag.count) == (1, 0)


def test_callbacks_that_block_are_lag_and_waiting_is_not(our_loop):
    our_loop.call_soon(block)
    our_loop.call_soon(block)
    our_loop.call_later(4 * BLOCK_SECONDS, our_loop.stop)
    our_loop.run_forever()
    statistics = our_loop.statistics()
    lag = statistics.lag
    # What became ready as the first of them began had to wait for both.
    assert lag.max >= 2 * BLOCK_SECONDS
    assert lag.total <= statistics.busy_seconds < statistics.running_seconds
    assert statistics.running_seconds >= 4 * BLOCK_SECONDS
    share = statistics.busy_seconds / statistics.running_seconds
    assert statistics.utilisation == pytest.approx(share)
    assert 0 < statistics.utilisation_1s <= 1
    assert 0 < statistics.utilisation_10s <= 1


def test_histogram_agrees_with_itself(our_loop):
    generator = random.Random(3)
    for _ in range(300):
        our_loop.call_soon(time.sleep, generator.expovariate(1e4))
        turn(our_loop)
    lag = our_loop.statistics().lag
    edges = [edge for edge, _ in lag.buckets]
    assert lag.count == sum(count for _, count in lag.buckets) == 300
    assert edges == sorted(set(edges))
    assert 0 < lag.p50 <= lag.p90 <= lag.p99 <= lag.max < edges[-1]
    for quantile, rank in ((lag.p50, 150), (lag.p90, 270), (lag.p99, 297)):
        before = sum(count for edge, count in lag.buckets if edge <= quantile)
        within = next(count for edge, count in lag.buckets if edge > quantile)
        assert before < rank <= before + within
    assert lag.total <= lag.count * lag.max


def test_time_between_two_runs_is_not_counted(our_loop):
    turn(our_loop)
    before = our_loop.statistics()
    block()
    assert our_loop.statistics().running_seconds == before.running_seconds
    with pytest.raises(KeyboardInterrupt):
        our_loop.call_soon(raise_interrupt)
        our_loop.run_forever()
    before = our_loop.statistics()
    block()
    assert our_loop.statistics().running_seconds == before.running_seconds
    assert before.callbacks == 2


def raise_interrupt():
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def test_rounds_of_a_subclass_are_counted():
    class Own(offloop.EventLoop):
        def _run_once(self):
            super()._run_once()

    loop = Own()
    loop.call_soon(block)
    turn(loop)
    statistics = loop.statistics()
    loop.close()
    assert (statistics.rounds, statistics.callbacks, statistics.lag.count) == (1, 2, 1)
    assert statistics.lag.max >= BLOCK_SECONDS
    assert statistics.running_seconds >= BLOCK_SECONDS


def test_another_thread_that_ends_the_wait_is_counted(our_loop):
    woken = threading.Event()

    def wake():
        deadline = time.monotonic() + 20
        while not our_loop.statistics().wakeups and time.monotonic() < deadline:
            woken.clear()
            our_loop.call_soon_threadsafe(woken.set)
            woken.wait(20)
        our_loop.call_soon_threadsafe(our_loop.stop)

    thread = threading.Thread(target=wake)
    our_loop.call_soon(thread.start)
    our_loop.run_forever()
    thread.join()
    # Stopping may have ended a wait, too.
    assert our_loop.statistics().wakeups in (1, 2)


def test_stuck_loop_can_be_asked_from_another_thread(our_loop):
    seen = []
    asked = threading.Event()

    def ask():
        seen.append(our_loop.statistics())
        block()
        seen.append(our_loop.statistics())
        asked.set()

    thread = threading.Thread(target=ask)

    def get_stuck():
        thread.start()
        asked.wait()

    our_loop.call_soon(get_stuck)
    our_loop.call_soon(int)
    turn(our_loop)
    thread.join()
    first, second = seen
    assert second.busy_seconds - first.busy_seconds >= BLOCK_SECONDS
    assert second.ready == 2
    assert second.lag == first.lag


async def exchange(reader, writer, chunks):
    """Send all chunks and read as many bytes back."""
    for chunk in chunks:
        writer.write(chunk)
        await writer.drain()
    return await reader.readexactly(sum(map(len, chunks)))


@pytest.mark.parametrize(
    "chunks",
    [[b"x"], [b"x" * 5000] * 20, [bytearray(3_000_000)], [b"y" * 2_000_000, memoryview(b"z" * 9)]],
    ids=["one byte", "packets", "large and changeable", "large and small"],
)
def test_bytes_and_connections_are_counted(our_loop, chunks):
    async def echo(reader, writer):
        while data := await reader.read(100_000):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        ended.set()

    ended = asyncio.Event()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await exchange(reader, writer, chunks)
        during = our_loop.statistics()
        writer.close()
        await writer.wait_closed()
        # Before Python 3.12 a server does not wait for its connections.
        await ended.wait()
        server.close()
        await server.wait_closed()
        return during

    during = our_loop.run_until_complete(main())
    total = 2 * sum(map(len, chunks))
    assert (during.bytes_received, during.bytes_sent) == (total, total)
    assert (during.connections, during.connections_made) == (2, 2)
    # Its own, the server's, and those of the two connections.
    assert during.descriptors == 4
    turn(our_loop)
    after = our_loop.statistics()
    assert (after.connections, after.connections_made, after.descriptors) == (0, 2, 1)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_connection_that_is_forgotten_is_open_no_more(our_loop):
    near, far = socket.socketpair()

    async def forget():
        transport, _protocol = await our_loop.create_connection(asyncio.Protocol, sock=near)
        transport.pause_reading()
        assert our_loop.statistics().connections == 1

    our_loop.run_until_complete(forget())
    gc.collect()
    assert our_loop.statistics().connections == 0
    far.close()


def test_counters_go_on_after_close_and_never_down(our_loop):
    counted = (
        *("busy_seconds", "running_seconds", "rounds", "callbacks", "polls", "timers_fired"),
        *("wakeups", "connections_made", "bytes_received", "bytes_sent", "ready_max"),
    )

    async def main():
        await asyncio.gather(*(asyncio.sleep(0.0001 * number) for number in range(20)))

    before = our_loop.statistics()
    for _ in range(5):
        our_loop.run_until_complete(main())
        after = our_loop.statistics()
        for name in counted:
            assert getattr(after, name) >= getattr(before, name), name
        assert after.callbacks > before.callbacks
        before = after
    our_loop.close()
    after = our_loop.statistics()
    assert (after.callbacks, after.lag) == (before.callbacks, before.lag)
    assert (after.ready, after.timers, after.descriptors) == (0, 0, 0)
