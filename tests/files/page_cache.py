"""Files in the page cache, and out of it."""

import os
from pathlib import Path


def is_cached(path: Path) -> bool | None:
    """Whether the first page of a file is in the page cache; none if the system cannot tell."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return None
    finally:
        os.close(fd)
    return True


def drop_from_cache(path: Path) -> None:
    """Put a file on the disk and out of the page cache, where there is one."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
