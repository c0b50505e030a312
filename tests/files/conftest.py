"""What tests of async files share: executors that count or wait, files out of the page cache."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from page_cache import drop_from_cache, is_cached


class CountingExecutor(ThreadPoolExecutor):
    """A thread pool that knows how many calls it was given."""

    calls = 0

    def submit(self, *arguments, **keywords):
        self.calls += 1
        return super().submit(*arguments, **keywords)


@pytest.fixture
def count_calls():
    """Make the running loop's default executor count; return it."""

    def install() -> CountingExecutor:
        executor = CountingExecutor(2)
        asyncio.get_running_loop().set_default_executor(executor)
        return executor

    return install


@pytest.fixture
def cold(tmp_path):
    """Write a file that is not in the page cache; return its path."""

    def write(data: bytes) -> Path:
        path = tmp_path / "cold"
        path.write_bytes(data)
        drop_from_cache(path)
        assert is_cached(path) is not True
        # The question itself has made the kernel read the file.
        drop_from_cache(path)
        return path

    return write


@pytest.fixture(autouse=True)
def files_here_are_known(tmp_path):
    """Read one file of this file system, so that the next ones can be read on the loop."""
    import offloop

    path = tmp_path / "first"
    path.write_bytes(b"first")
    assert asyncio.run(offloop.read_file(path)) == b"first"
    path.unlink()


@pytest.fixture
def cacheable(tmp_path) -> bool:
    """Whether the file system of the tests says what it has cached."""
    path = tmp_path / "asked"
    path.write_bytes(b"text")
    return is_cached(path) is True
