"""An executor whose threads wait until they are told, and tasks that go as far as they can."""

import asyncio
import threading


class Gate:
    """An executor's threads wait here until the test opens it."""

    def __init__(self):
        self.opened = threading.Event()
        loop = asyncio.get_running_loop()
        self.waiting = [loop.run_in_executor(None, self.opened.wait) for _ in range(2)]

    async def open(self):
        self.opened.set()
        await asyncio.gather(*self.waiting)


async def let_run(turns=5):
    """Give every task the chance to go as far as it can."""
    for _ in range(turns):
        await asyncio.sleep(0)
