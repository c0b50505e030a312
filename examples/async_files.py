"""Async files: a log is copied line by line while a clock keeps ticking.

    python examples/async_files.py

Lines that the page cache holds are read on the loop's thread, without a visit to another one; what
has to be waited for is done in the loop's default executor. The clock never notices.
"""

import asyncio
import tempfile
from pathlib import Path

import offloop

LINES = 50_000


async def tick(ticks):
    while True:
        ticks.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.001)


async def copy_errors(source, target):
    found = 0
    async with offloop.open(source) as log, offloop.open(target, "w") as errors:
        async for line in log:
            if "error" in line:
                await errors.write(line)
                found += 1
    return found


async def main():
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "service.log"), Path(folder, "errors.log")
        lines = (f"{n} {'error' if n % 100 == 0 else 'fine'}\n" for n in range(LINES))
        await offloop.write_file(source, "".join(lines), encoding="utf-8")

        ticks = []
        ticking = asyncio.create_task(tick(ticks))
        found = await copy_errors(source, target)
        ticking.cancel()

        text = await offloop.read_file(target, encoding="utf-8")
        print(f"errors: {found}, lines written: {len(text.splitlines())}")
        print(f"the clock ticked meanwhile: {len(ticks) > 1}")


offloop.run(main())
