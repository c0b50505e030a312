"""Whose code is blamed: installed applications, generated methods, destructors, claimed code."""

import os
import re
import textwrap
from pathlib import Path

import pytest

import offloop

pytestmark = pytest.mark.quick

DATABASE = """
    import time

    def query():
        time.sleep(0.3)
"""
WEB = """
    from shopapp import db

    async def app():
        db.query()
"""
RUN = """
    import asyncio
    from shopapp.web import app

    async def main():
        await asyncio.create_task(app())

    def run():
        asyncio.run(main())
"""
SERVER = """
    import asyncio, importlib

    async def serve():
        app = importlib.import_module("shopapp.web").app
        await asyncio.create_task(call(app))

    async def call(app):
        await app()

    asyncio.run(serve())
"""
SHOPAPP = {
    "shopapp/__init__.py": "",
    "shopapp/db.py": DATABASE,
    "shopapp/web.py": WEB,
    "shopapp/cli.py": RUN,
    "shopapp/__main__.py": "from shopapp.cli import run\nrun()\n",
}


@pytest.fixture
def blamed(tmp_path, monkeypatch, offloop_command):
    """Run a program with these packages installed; what is told of its first stall."""
    installed = tmp_path / "site-packages"
    path = [str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))

    def run(packages: dict[str, str], *arguments: str) -> str:
        for name, source in packages.items():
            write(installed / name, source)
        ended = offloop_command("run", "--no-report", *arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stderr

    return run


def write(file: Path, source: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(source))


def places(told: str) -> list[str]:
    """The culprits, each as its blocks name it."""
    return sorted(set(re.findall("╭─ (.* in .*)", told)))


QUERY = "shopapp/db.py:5 in query"


def test_installed_application_under_a_server_is_blamed_at_its_line(blamed):
    packages = {**SHOPAPP, "gunicorn/__main__.py": SERVER, "gunicorn/__init__.py": ""}
    told = blamed(packages, "-m", "gunicorn")
    assert places(told) == [QUERY]
    assert "no code of yours is on the stack, but shopapp" in told
    assert "at shopapp/web.py:5 in app" in told


@pytest.mark.parametrize("way", ["module", "script"])
def test_installed_application_is_blamed_however_it_is_started(blamed, tmp_path, way):
    write(tmp_path / "bin" / "shop", "import sys\nfrom shopapp.cli import run\nsys.exit(run())\n")
    arguments = ("-m", "shopapp") if way == "module" else ("bin/shop",)
    assert places(blamed(SHOPAPP, *arguments)) == [QUERY]


def test_package_that_is_claimed_is_blamed_though_its_framework_is_not_known(blamed):
    packages = {**SHOPAPP, "unheard/__main__.py": SERVER, "unheard/__init__.py": ""}
    (place,) = places(blamed(packages, "-m", "unheard"))
    assert place.startswith("unheard/__main__.py")
    told = blamed({}, "--own", "shopapp", "-m", "unheard")
    assert places(told) == [QUERY]
    assert "no code of yours" not in told


def test_folder_that_is_claimed_is_blamed(blamed):
    told = blamed(SHOPAPP, "--own", "./site-packages/shopapp", "-m", "shopapp")
    (place,) = places(told)
    assert place.endswith(QUERY)
    assert "no code of yours" not in told


def test_library_that_the_users_code_calls_is_not_blamed(blamed, tmp_path):
    write(tmp_path / "app.py", "import asyncio\nfrom shopapp.web import db\n\n" + CALLS)
    assert places(blamed(SHOPAPP, "app.py")) == ["app.py:5 in main"]


CALLS = "async def main():\n    db.query()\n\nasyncio.run(main())\n"

GENERATED = {
    "dataclass": """
        @dataclasses.dataclass(order=True)
        class Item:
            value: int
    """,
    "exec": """
        names = {}
        exec("class Item:\\n def __init__(self, value): self.value = value\\n"
             " def __lt__(self, other): return self.value < other.value", names)
        Item = names["Item"]
    """,
}


@pytest.mark.parametrize("way", GENERATED)
def test_generated_method_is_not_blamed_but_the_line_that_runs_it(blamed, tmp_path, way):
    program = "import asyncio, dataclasses, time\n" + textwrap.dedent(GENERATED[way])
    program += textwrap.dedent("""
        items = [Item(number * 7919 % 50_021) for number in range(30_000)]

        async def main():
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                sorted(items)

        asyncio.run(main())
    """)
    write(tmp_path / "app.py", program)
    line = program.splitlines().index("        sorted(items)") + 1
    assert places(blamed({}, "app.py")) == [f"app.py:{line} in main"]


def test_code_of_the_command_line_is_blamed_at_its_own_line(blamed):
    source = "import asyncio, time\nasync def main():\n    time.sleep(0.3)\nasyncio.run(main())"
    assert places(blamed({}, "-c", source)) == ["<string>:3 in main"]


def test_destructor_is_blamed_and_not_the_line_that_it_interrupts(blamed, tmp_path):
    library = """
        import time

        class Terminal:
            def __init__(self):
                self.myself = self

            def __del__(self):
                self.close()

            def close(self):
                time.sleep(0.3)
    """
    program = """
        import asyncio, gc, terminals

        def innocent(numbers):
            return [[number] for number in numbers]

        async def main():
            terminals.Terminal()
            gc.set_threshold(500, 1, 1)
            for _ in range(20):
                innocent(range(1_000))

        asyncio.run(main())
    """
    write(tmp_path / "app.py", program)
    told = blamed({"terminals/__init__.py": library}, "app.py")
    assert places(told) == ["terminals/__init__.py:12 in Terminal.close"]
    assert "a destructor runs in the middle of app.py:" in told
    assert "`Terminal.__del__`" in told
    assert "to_thread" not in told


@pytest.mark.parametrize(
    ("own", "error"),
    [
        ("shopapp", TypeError),
        ([b"shopapp"], TypeError),
        (7, TypeError),
        ([Path("shop"), 7], TypeError),
        (["shop-app"], ValueError),
        ([""], ValueError),
        (["shop."], ValueError),
    ],
)
def test_what_is_neither_a_package_nor_a_folder_cannot_be_claimed(own, error):
    with pytest.raises(error, match="own must"):
        offloop.watch(own=own)
    assert offloop.watch._layers.top is None


def test_names_on_the_command_line_are_checked(offloop_command):
    ended = offloop_command("run", "--own", "shop-app", "app.py")
    assert ended.returncode == 2
    assert "--own must hold names of packages" in ended.stderr
    ended = offloop_command("run", "--own", "shopapp", "--no-watch", "app.py")
    assert ended.returncode == 2
    assert "--own needs the watch" in ended.stderr
