"""asyncpg and psycopg against a private PostgreSQL: queries, messages, TLS, cancelling, its end."""

import asyncio
import ssl

import asyncpg
import psycopg
import pytest

from servers import PostgreSQL, running
from tls_ends import CERTIFICATE, client_context

LARGE = bytes(range(256)) * 16384
ROWS = 2000


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL of this module's own."""
    yield from running(PostgreSQL)


@pytest.fixture
def address(server) -> dict:
    """What both drivers call the address of the database."""
    return {"host": "127.0.0.1", "port": server.port, "user": "tester"}


@pytest.fixture
def connect_asyncpg(address):
    """Connect with asyncpg, without TLS unless a test wants it."""
    return lambda ssl=False: asyncpg.connect(**address, database="postgres", ssl=ssl)


@pytest.fixture
def connect_psycopg(address):
    """Connect with psycopg, without TLS unless a test wants it."""

    def connect(sslmode="disable", **options):
        return psycopg.AsyncConnection.connect(
            **address, dbname="postgres", autocommit=True, sslmode=sslmode, **options
        )

    return connect


def test_asyncpg_asks_copies_and_reads_large_values(run, connect_asyncpg):
    async def main():
        connection = await connect_asyncpg()
        await connection.execute("create temporary table sent (number int, body bytea)")
        await connection.copy_records_to_table(
            "sent", records=[(number, b"%d" % number) for number in range(ROWS)]
        )
        await connection.executemany(
            "insert into sent values ($1, $2)", [(ROWS + number, b"") for number in range(100)]
        )
        async with connection.transaction():
            numbers = [
                row["number"]
                async for row in connection.cursor("select number from sent order by number")
            ]
        large = await connection.fetchval("select $1::bytea || $1::bytea", LARGE)
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetchval("select 1 / 0")
        await connection.close()
        return numbers, large == 2 * LARGE

    assert run(main()) == (list(range(ROWS + 100)), True)


def test_asyncpgs_pool_serves_many_at_once(run, address):
    async def main():
        options = {"database": "postgres", "ssl": False, "min_size": 4, "max_size": 8}
        async with asyncpg.create_pool(**address, **options) as pool:
            squares = await asyncio.gather(
                *(pool.fetchval("select $1::int * $1::int", number) for number in range(300))
            )
            backends = await asyncio.gather(
                *(pool.fetchval("select pg_backend_pid() from pg_sleep(0.01)") for _ in range(40))
            )
        return squares, 1 < len(set(backends)) <= 8

    assert run(main()) == ([number**2 for number in range(300)], True)


def test_notifications_reach_both_drivers(run, connect_asyncpg, connect_psycopg):
    async def main():
        heard = asyncio.Queue()
        listener, sender = await connect_asyncpg(), await connect_asyncpg()
        await listener.add_listener("news", lambda *about: heard.put_nowait(about[-1]))
        async with await connect_psycopg() as other:
            await other.execute("listen news")
            for number in range(50):
                await sender.execute(f"notify news, '{number}'")
            by_asyncpg = [await heard.get() for _ in range(50)]
            by_psycopg = [notice.payload async for notice in other.notifies(stop_after=50)]
        await listener.close()
        await sender.close()
        return by_asyncpg, by_psycopg[:50]

    expected = [str(number) for number in range(50)]
    assert run(main()) == (expected, expected)


def test_psycopg_asks_in_a_pipeline_and_copies(run, connect_psycopg):
    async def main():
        async with await connect_psycopg() as connection:
            await connection.execute("create temporary table sent (number int, body bytea)")
            async with connection.pipeline():
                cursors = [
                    await connection.execute("select %s::int * 2", (number,))
                    for number in range(200)
                ]
                doubled = [(await cursor.fetchone())[0] for cursor in cursors]
            async with connection.cursor() as cursor:
                async with cursor.copy("copy sent from stdin") as copy:
                    for number in range(ROWS):
                        await copy.write_row((number, b"body"))
                copied = await (await cursor.execute("select count(*) from sent")).fetchone()
                query = await cursor.execute("select %b::bytea", (LARGE,))
                large = await query.fetchone()
            with pytest.raises(psycopg.errors.DivisionByZero):
                await connection.execute("select 1 / 0")
        return doubled, copied, large[0] == LARGE

    assert run(main()) == ([2 * number for number in range(200)], (ROWS,), True)


async def sleepers(connection) -> int:
    """How many queries sleep on the server, as another connection sees it."""
    query = "select count(*) from pg_stat_activity where query like 'select pg_sleep(6_)'"
    return await connection.fetchval(query)


def test_cancelled_query_ends_on_the_server_too(run, connect_asyncpg, connect_psycopg):
    async def main():
        watcher, first = await connect_asyncpg(), await connect_asyncpg()
        async with await connect_psycopg() as second:
            for sleep in (first.execute, second.execute):
                task = asyncio.create_task(sleep("select pg_sleep(60)"))
                while not await sleepers(watcher):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                again = await sleep("select 1")
                assert again
                assert not await sleepers(watcher)
            with pytest.raises(TimeoutError):
                await first.execute("select pg_sleep(61)", timeout=0.01)
            answer = await first.fetchval("select 2")
        await watcher.close()
        await first.close()
        return answer

    assert run(main()) == 2


def test_tls_is_spoken_after_the_plain_greeting(run, connect_asyncpg, connect_psycopg):
    query = "select version from pg_stat_ssl where pid = pg_backend_pid()"

    async def main():
        trusting = client_context()
        trusting.check_hostname = False
        connection = await connect_asyncpg(ssl=trusting)
        version = await connection.fetchval(query)
        large = await connection.fetchval("select $1::bytea || $1::bytea", LARGE)
        await connection.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect_asyncpg(ssl=ssl.create_default_context())
        async with await connect_psycopg("verify-ca", sslrootcert=str(CERTIFICATE)) as other:
            seen = await (await other.execute(query)).fetchone()
        return version[:4], large == 2 * LARGE, seen[0][:4]

    assert run(main()) == ("TLSv", True, "TLSv")


def test_killed_server_ends_every_query_with_the_standard_error(
    run, server, connect_asyncpg, connect_psycopg
):
    async def main():
        watcher, first = await connect_asyncpg(), await connect_asyncpg()
        second = await connect_psycopg()
        waiting = [
            asyncio.create_task(connection.execute("select pg_sleep(60)"))
            for connection in (first, second)
        ]
        while await sleepers(watcher) < 2:
            await asyncio.sleep(0)
        server.kill()
        by_asyncpg, by_psycopg = await asyncio.gather(*waiting, return_exceptions=True)
        closed = first.is_closed(), second.closed
        with pytest.raises(ConnectionRefusedError):
            await connect_asyncpg()
        with pytest.raises(psycopg.OperationalError):
            await connect_psycopg()
        server.start()
        async with await connect_psycopg() as again:
            answer = await (await again.execute("select 3")).fetchone()
        return type(by_asyncpg), type(by_psycopg), closed, answer

    kind, other_kind, closed, answer = run(main())
    assert issubclass(kind, asyncpg.ConnectionDoesNotExistError)
    assert issubclass(other_kind, psycopg.OperationalError)
    assert (closed, answer) == ((True, True), (3,))
