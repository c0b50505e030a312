"""A page shows what a program does while it does it, also while its event loop is frozen.

Run it, open the address that it prints, and watch: the loop works, calls run on workers, and now
and then a handler blocks the loop. The page names its line, and what to write instead. `--rounds 3`
ends after three rounds of a second; without it the program goes on until Ctrl-C.
"""

import argparse
import asyncio
import itertools
import time

import offloop


def square_sum(below: int) -> int:
    """Work for a worker."""
    return sum(number * number for number in range(below))


async def blocking_handler() -> None:
    """Blocks the loop for a tenth of a second."""
    time.sleep(0.1)


async def round_of_work() -> None:
    """A second's work: calls on workers, one handler that blocks, and a wait."""
    async with asyncio.TaskGroup() as group:
        for below in (200_000, 400_000, 800_000):
            group.create_task(offloop.to_process(square_sum, below), name=f"sum below {below}")
        group.create_task(blocking_handler(), name="handler that blocks")
        group.create_task(asyncio.sleep(1), name="pause")


async def main(rounds: int | None) -> None:
    """Serve the page while the rounds go on."""
    with offloop.watch(words=False), offloop.page() as page:
        print(f"open {page.url}", flush=True)
        for _ in itertools.count() if rounds is None else range(rounds):
            await round_of_work()
        stalls = offloop.watch.statistics().stalls
        print(f"{stalls} stalls were shown")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int)
    offloop.run(main(parser.parse_args().rounds))
