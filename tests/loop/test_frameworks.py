"""The servers, clients and libraries that people use, in a real exchange on our loop."""

import asyncio
import functools
import http.client
import re
import signal
import subprocess
import sys
import textwrap

import aiohttp
import anyio
import anyio.to_thread
import httpx
import pytest
import uvicorn
import websockets.asyncio.client
import websockets.asyncio.server
from aiohttp import web
from fastapi import FastAPI, WebSocket

import offloop
from gates import PATIENCE_SECONDS

OUR_LOOP = "offloop._loop.event_loop"
ANSWER = f'{{"loop":"{OUR_LOOP}","square":49}}'
LARGE = bytes(range(256)) * 4096

APPLICATION = """
    import asyncio
    import offloop
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def tell(number: int = 0):
        doubled = await offloop.to_process(pow, number, 2)
        return {"loop": type(asyncio.get_running_loop()).__module__, "square": doubled}
    """


GUNICORN_WORKER = """
    from uvicorn_worker import UvicornWorker

    class OffloopWorker(UvicornWorker):
        CONFIG_KWARGS = {"loop": "offloop:new_event_loop", "http": "auto"}
    """


def test_uvicorn_serves_a_fastapi_application_on_our_loop(tmp_path):
    (tmp_path / "app.py").write_text(textwrap.dedent(APPLICATION))
    command = [sys.executable, "-m", "uvicorn", "app:app", "--loop", "offloop:new_event_loop"]
    with subprocess.Popen(
        [*command, "--port", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert ask(port_of(server)) == ANSWER
        finally:
            server.send_signal(signal.SIGINT)
            rest = server.communicate(timeout=PATIENCE_SECONDS)[0]
    assert "Finished server process" in rest


def test_gunicorn_serves_it_with_a_worker_class_of_ours(tmp_path):
    (tmp_path / "app.py").write_text(textwrap.dedent(APPLICATION + GUNICORN_WORKER))
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "app.OffloopWorker", "app:app"]
    with subprocess.Popen(
        [*command, "--bind", "127.0.0.1:0", "--no-control-socket"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert ask(port_of(server)) == ANSWER
        finally:
            server.terminate()
            server.communicate(timeout=PATIENCE_SECONDS)


def port_of(server: "subprocess.Popen[str]") -> int:
    """The port that the server says that it listens at."""
    for line in server.stdout:
        found = re.search(r"(?:unning on|Listening at:) http://127\.0\.0\.1:(\d+)", line)
        if found:
            return int(found[1])
    raise AssertionError("the server ended before it served")


def ask(port: int) -> str:
    """The answer to one request, by a client without any loop."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/?number=7")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def application() -> FastAPI:
    """A FastAPI application with a large body and a web socket."""
    app = FastAPI()

    @app.post("/reverse")
    async def reverse(body: dict[str, str]) -> dict[str, str]:
        return {"text": body["text"][::-1]}

    @app.websocket("/shout")
    async def shout(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text((await socket.receive_text()).upper())
        await socket.close()

    return app


def test_httpx_and_websockets_talk_to_fastapi_on_one_loop():
    async def main():
        server = uvicorn.Server(
            uvicorn.Config(application(), port=0, log_level="error", lifespan="off")
        )
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.001)
        port = server.servers[0].sockets[0].getsockname()[1]
        text = "text " * 50_000
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            asked = [client.post("/reverse", json={"text": text}) for _ in range(20)]
            answers = await asyncio.gather(*asked)
        async with websockets.asyncio.client.connect(f"ws://127.0.0.1:{port}/shout") as socket:
            await socket.send("hello")
            shouted = await socket.recv()
        server.should_exit = True
        await serving
        return {answer.json()["text"] == text[::-1] for answer in answers}, shouted

    assert offloop.run(main()) == ({True}, "HELLO")


def test_aiohttp_serves_and_asks():
    async def double(request):
        return web.Response(body=2 * await request.read())

    async def shout(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    async def main():
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/double", double)
        app.router.add_get("/shout", shout)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as session:

            async def post() -> bool:
                async with session.post(f"{url}/double", data=LARGE) as response:
                    return await response.read() == 2 * LARGE

            doubled = await asyncio.gather(*(post() for _ in range(10)))
            async with session.ws_connect(f"{url}/shout") as socket:
                await socket.send_str("hello")
                shouted = await socket.receive_str()
        await runner.cleanup()
        return set(doubled), shouted

    assert offloop.run(main()) == ({True}, "HELLO")


def test_websockets_serve_and_connect():
    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    async def main():
        async with websockets.asyncio.server.serve(echo, "127.0.0.1", 0, max_size=None) as server:
            port = server.sockets[0].getsockname()[1]
            uri = f"ws://127.0.0.1:{port}"
            async with websockets.asyncio.client.connect(uri, max_size=None) as socket:
                await socket.send(LARGE)
                large = await socket.recv()
                await (await socket.ping())
                received = []
                for number in range(200):
                    await socket.send(str(number))
                    received.append(int(await socket.recv()))
        return large == LARGE, received

    assert offloop.run(main()) == (True, list(range(200)))


def test_anyio_takes_our_loop_as_a_backend_option():
    async def serve(stream):
        async with stream:
            async for data in stream:
                await stream.send(data.upper())

    async def main():
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"hello")
                answer = await stream.receive()
            thread = await anyio.to_thread.run_sync(functools.partial(sum, [1, 2]))
            process = await anyio.run_process([sys.executable, "-c", "print(3)"])
            with anyio.move_on_after(0.01) as scope:
                await anyio.sleep_forever()
            power = await offloop.to_process(pow, 2, 10)
            group.cancel_scope.cancel()
        loop = type(asyncio.get_running_loop()).__module__
        return answer, thread, process.stdout, scope.cancelled_caught, power, loop

    options = {"loop_factory": offloop.new_event_loop}
    outcome = anyio.run(main, backend="asyncio", backend_options=options)
    assert outcome == (b"HELLO", 3, b"3\n", True, 1024, OUR_LOOP)


PLUGINS = {
    "anyio": (
        """
        import asyncio, offloop, pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio", {"loop_factory": offloop.new_event_loop}

        @pytest.mark.anyio
        async def test_loop():
            assert isinstance(asyncio.get_running_loop(), offloop.EventLoop)
            assert await offloop.to_process(abs, -1) == 1
        """,
        "",
    ),
    "pytest-asyncio": (
        """
        import asyncio, offloop, pytest

        @pytest.mark.asyncio
        async def test_loop():
            assert isinstance(asyncio.get_running_loop(), offloop.EventLoop)
            assert await offloop.to_process(abs, -1) == 1
        """,
        """
        import offloop

        def pytest_asyncio_loop_factories(config, item):
            return {"offloop": offloop.new_event_loop}
        """,
    ),
    "looptime": (
        """
        import asyncio, pytest, offloop

        @pytest.mark.asyncio
        @pytest.mark.looptime(start=100)
        async def test_on_our_loop(looptime):
            loop = asyncio.get_running_loop()
            assert isinstance(loop, offloop.EventLoop)
            assert loop.looptime_on
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(10_000), 5_000)
            assert loop.time() == 5_100
            assert looptime == 5_100
            assert await offloop.to_process(abs, -3) == 3
        """,
        """
        import offloop

        def pytest_asyncio_loop_factories(config, item):
            return {"offloop": offloop.new_event_loop}
        """,
    ),
}


@pytest.mark.parametrize("name", PLUGINS)
def test_test_plugins_run_coroutines_on_our_loop(name, tmp_path):
    test, configuration = PLUGINS[name]
    (tmp_path / "test_plugin.py").write_text(textwrap.dedent(test))
    (tmp_path / "conftest.py").write_text(textwrap.dedent(configuration))
    settings = "addopts = -p no:asyncio -p no:aiohttp -p no:looptime_plugin"
    if name in {"pytest-asyncio", "looptime"}:
        settings = "asyncio_default_fixture_loop_scope = function"
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\n{settings}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        cwd=tmp_path,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
