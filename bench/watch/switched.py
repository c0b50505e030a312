"""What the watch takes of a server's processor time: `python -m bench.watch.switched`.

One server answers all the time, and its watch is turned on and off in it. So the two ways have the
same process, memory and connections, and what the machine does beside them meets both. The
processor time is that of all threads of the process, in the kernel, too.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import statistics
import subprocess
import sys
import time

import offloop
from bench.watch.servers import LOOPS, SERVERS, Answered, ask

MODULE = "bench.watch.switched"
PART_S = 1.0
SETTLE_S = 0.3
"""The watch reads its catalogue and tries its reader of stacks as it begins."""
ORDER = (False, True, True, False)
"""Whether the watch is on: there and back, so that a machine that slows down does so for both."""


def serve(name: str, loop: str, rounds: int) -> None:
    """Print processor time and requests of each part, in the order of the rounds."""
    parts: list[tuple[float, int]] = []

    async def load(port: int) -> None:
        words = ("-m", MODULE, "ask", str(port))
        client = await asyncio.create_subprocess_exec(sys.executable, *words)
        await asyncio.sleep(1)
        for _, watched in itertools.product(range(rounds), ORDER):
            if watched:
                offloop.watch()
            await asyncio.sleep(SETTLE_S)
            before = time.process_time(), Answered.count
            await asyncio.sleep(PART_S)
            after = time.process_time(), Answered.count
            parts.append((after[0] - before[0], after[1] - before[1]))
            offloop.watch.stop()
        client.kill()
        await client.wait()

    LOOPS[loop](SERVERS[name](load))
    print(json.dumps(parts))


def measure(rounds: int) -> None:
    """Print what a request takes, and what the watch adds."""
    for name, loop in itertools.product(SERVERS, LOOPS):
        words = ("serve", name, loop, str(rounds))
        ran = subprocess.run(
            [sys.executable, "-m", MODULE, *words], capture_output=True, text=True, check=True
        )
        each = [1e6 * seconds / requests for seconds, requests in json.loads(ran.stdout)]
        turns = list(zip(each[::4], each[1::4], each[2::4], each[3::4], strict=True))
        plain = statistics.median(each[::4] + each[3::4])
        lost = [(on + again) / (off + last) - 1 for off, on, again, last in turns]
        error = statistics.stdev(lost) / math.sqrt(len(lost))
        print(
            f"{name} on {loop}: {plain:.1f} us of a processor for a request, "
            f"{statistics.mean(lost):+.2%} with the watch (standard error {error:.2%})",
            flush=True,
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", name, loop, rounds]:
            serve(name, loop, int(rounds))
        case ["ask", port]:
            ask(int(port), sys.maxsize)
        case _:
            parser = argparse.ArgumentParser(description=__doc__)
            parser.add_argument("--rounds", type=int, default=15)
            measure(parser.parse_args().rounds)
