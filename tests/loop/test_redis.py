"""redis.asyncio against a private Redis: pipelines, blocking calls, messages, TLS, and its end."""

import asyncio

import pytest
import redis.asyncio
import redis.exceptions

from servers import Redis, running
from tls_ends import CERTIFICATE

LARGE = bytes(range(256)) * 16384


@pytest.fixture(scope="module")
def server():
    """A Redis of this module's own."""
    yield from running(Redis)


@pytest.fixture
def client(server):
    """Make clients of the server that do not try again by themselves."""

    def connect(**options) -> redis.asyncio.Redis:
        options = {"host": "127.0.0.1", "port": server.port, **options}
        return redis.asyncio.Redis(retry=None, **options)

    return connect


def test_commands_and_pipelines_are_answered_in_order(run, client):
    async def main():
        async with client() as connection:
            await connection.flushall()
            await connection.set("large", LARGE)
            async with connection.pipeline(transaction=True) as pipeline:
                for number in range(1000):
                    pipeline.rpush("numbers", number)
                lengths = await pipeline.execute()
            numbers = await connection.lrange("numbers", 0, -1)
            raised = await asyncio.gather(*(connection.incr("count") for _ in range(50)))
            return await connection.get("large"), lengths, numbers, raised

    large, lengths, numbers, raised = run(main())
    assert large == LARGE
    assert lengths == list(range(1, 1001))
    assert numbers == [str(number).encode() for number in range(1000)]
    assert sorted(raised) == list(range(1, 51))


def test_messages_reach_every_subscriber(run, client):
    async def listen(subscription, wanted):
        received = []
        async for message in subscription.listen():
            if message["type"] == "message":
                received.append(message["data"])
            if len(received) == wanted:
                break
        return received

    async def main():
        async with client() as connection:
            async with connection.pubsub() as first, connection.pubsub() as second:
                for subscription in (first, second):
                    await subscription.subscribe("news")
                    assert (await subscription.get_message(timeout=20))["type"] == "subscribe"
                listening = [asyncio.create_task(listen(each, 100)) for each in (first, second)]
                for number in range(100):
                    assert await connection.publish("news", number) == 2
                return await asyncio.gather(*listening)

    expected = [str(number).encode() for number in range(100)]
    assert run(main()) == [expected, expected]


def test_blocking_call_is_answered_cancelled_and_ended_by_its_timeout(run, client):
    async def main():
        async with client() as connection, client() as other:
            waiting = asyncio.create_task(connection.blpop("queue", timeout=0))
            while not (await other.info("clients"))["blocked_clients"]:
                await asyncio.sleep(0)
            await other.rpush("queue", "work")
            answered = await waiting
            waiting = asyncio.create_task(connection.blpop("queue", timeout=0))
            while not (await other.info("clients"))["blocked_clients"]:
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await connection.blpop("queue", timeout=0)
            return answered, waiting.cancelled(), await connection.ping()

    assert run(main()) == ((b"queue", b"work"), True, True)


def test_tls_and_unix_sockets(run, client, server):
    async def main():
        tls = {"port": server.tls_port, "ssl": True}
        secure = client(**tls, ssl_ca_certs=str(CERTIFICATE))
        async with secure, client(unix_socket_path=str(server.folder / "redis.sock")) as local:
            await secure.set("large", LARGE)
            through_tls, through_unix = await asyncio.gather(
                secure.get("large"), local.get("large")
            )
        async with client(**tls) as distrustful:
            with pytest.raises(redis.exceptions.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                await distrustful.ping()
        return through_tls == LARGE, through_unix == LARGE

    assert run(main()) == (True, True)


def test_killed_server_ends_every_call_with_the_standard_error(run, client, server):
    async def main():
        async with client() as connection:
            waiting = [asyncio.create_task(connection.blpop("never", timeout=0)) for _ in range(5)]
            while (await connection.info("clients"))["blocked_clients"] < 5:
                await asyncio.sleep(0)
            server.kill()
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            with pytest.raises(redis.exceptions.ConnectionError):
                await connection.ping()
            server.start()
            return {type(error) for error in ended}, await connection.ping()

    assert run(main()) == ({redis.exceptions.ConnectionError}, True)
