"""Names that are no UTF-8: a view tells all else, and a mark stands for what it cannot hold."""

from viewers import Viewer, running

NAMED = """
import asyncio, os, sys, threading

HALF = os.fsdecode(b"caf\\xe9")
sys.argv[0] = HALF

async def wait():
    await asyncio.Event().wait()

wait.__code__ = wait.__code__.replace(co_filename=HALF, co_name=HALF, co_qualname=HALF)

async def main():
    waits = asyncio.create_task(wait(), name=HALF)
    await asyncio.sleep(0)
    print("ready", flush=True)
    await waits

threading.Thread(target=asyncio.run, args=(main(),), name=HALF).start()
"""


def test_program_task_loop_and_file_without_utf8_are_told(tmp_path):
    with running(NAMED, tmp_path) as program:
        assert program.heard() == "ready"
        with Viewer(program.path) as viewer:
            document = viewer.document_when(lambda it: it["tasks"]["total"] == 2)
    assert document["process"]["program"] == "caf\ufffd"
    assert [loop["kind"] for loop in document["loops"]] == ["offloop"]
    [task] = [task for task in document["tasks"]["tasks"] if task["name"] == "caf\ufffd"]
    place = task["stack"][0]
    assert (place["file"], place["function"]) == ("caf\ufffd", "caf\ufffd")
