"""Where the system forbids to read memory, the stack is read in another way, and it is said."""

import os

import pytest

from gates import run_program

PROGRAM = """
    import asyncio, sys
    sys.path.insert(0, sys.argv[1])
    from seccomp import forbid
    import offloop

    forbid(*sys.argv[2:])
    stalls = []
    offloop.watch(0.02, stalls.append, words=False)

    async def main():
        while not stalls:
            pass

    with asyncio.Runner(loop_factory=offloop.EventLoop) as runner:
        runner.run(main())
    offloop.watch.stop()
    for stall in stalls:
        entry = stall.stack[0]
        print(stall.stack_quality, entry.function, entry.lineno in (12, 13), stall.duration is None)
"""


@pytest.mark.parametrize(
    ("forbidden", "qualities"),
    [
        # Docker's default filter, before Linux 4.8: the bytes go through a pipe.
        (["process_vm_readv"], ("exact", "moving")),
        (["process_vm_readv", "pipe", "pipe2"], ("fallback",)),
    ],
)
def test_line_is_told_all_the_same(tmp_path, forbidden, qualities):
    result = run_program(tmp_path, PROGRAM, os.path.dirname(__file__), *forbidden)
    found, over = (line.split() for line in result.stdout.splitlines())
    assert found[0] in qualities, result
    assert (found[1:], over[1:]) == (["main", "True", "True"], ["main", "True", "False"])
