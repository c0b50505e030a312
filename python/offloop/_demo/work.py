"""The demo's work: real computation on real input, in plain functions that may run anywhere.

Each function returns its answer and a `Span` that says where and when it ran.  The photographs are
those that scikit-image ships, all in the public domain or free to use; the package itself is not
imported.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import io
import os
import sysconfig
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from offloop._demo.record import Kind, Span

PHOTOGRAPHS = (
    "retina.jpg",
    "hubble_deep_field.jpg",
    "rocket.jpg",
    "motorcycle_left.png",
    "astronaut.png",
    "coffee.png",
)
THUMBNAIL_EDGES = (640, 320, 160, 80)
SOURCE_BYTES_MIN, SOURCE_BYTES_MAX = 60_000, 200_000
"""Modules of this size parse and compile in 30 to 150 ms."""
SEARCH_EDGE, PATCH_EDGE = 1024, 64


class PicturesMissing(Exception):
    """The package with the photographs is not installed."""


@functools.cache
def photographs() -> list[Path]:
    """The photographs on this machine; releases of scikit-image from 0.27 on have none."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise PicturesMissing
    folder = Path(spec.origin).parent / "data"
    found = [folder / name for name in PHOTOGRAPHS if (folder / name).is_file()]
    if not found:
        raise PicturesMissing
    return found


@functools.cache
def library_sources() -> list[Path]:
    """Modules of the standard library that are worth parsing."""
    folder = Path(sysconfig.get_path("stdlib"))
    # Debian keeps a link here whose target may be absent.
    files = (path for path in sorted(folder.glob("*.py")) if path.is_file())
    sizes = ((path, path.stat().st_size) for path in files)
    return [path for path, size in sizes if SOURCE_BYTES_MIN <= size <= SOURCE_BYTES_MAX]


def _span(kind: Kind, label: str, begin: float) -> Span:
    thread = threading.get_native_id()
    return Span(kind, label, os.getpid(), thread, begin, time.monotonic())


def thumbnails(index: int) -> tuple[bytes, Span]:
    """Scale one photograph to several sizes and encode each; the answer is the smallest."""
    begin = time.monotonic()
    path = photographs()[index % len(photographs())]
    encoded = io.BytesIO()
    with Image.open(path) as opened:
        photograph = opened.convert("RGB")
    for edge in THUMBNAIL_EDGES:
        scaled = photograph.copy()
        scaled.thumbnail((edge, edge), Image.Resampling.LANCZOS)
        encoded = io.BytesIO()
        scaled.save(encoded, "JPEG", quality=85, optimize=True)
    return encoded.getvalue(), _span(Kind.THUMBNAIL, path.name, begin)


def parse(index: int) -> tuple[bytes, Span]:
    """Parse and compile one module of the standard library, and hash its syntax tree's shape."""
    begin = time.monotonic()
    path = library_sources()[index % len(library_sources())]
    tree = ast.parse(path.read_bytes())
    digest = hashlib.sha256()
    for node in ast.walk(tree):
        digest.update(type(node).__name__.encode())
    digest.update(compile(tree, path.name, "exec").co_code)
    return digest.hexdigest().encode(), _span(Kind.PARSE, path.name, begin)


def search(index: int) -> tuple[bytes, Span]:
    """Find where a piece of a photograph was cut out, by correlation in the frequency domain."""
    begin = time.monotonic()
    path = photographs()[index % len(photographs())]
    with Image.open(path) as opened:
        grey = opened.convert("L").resize((SEARCH_EDGE, SEARCH_EDGE))
    picture = np.asarray(grey, dtype=np.float64)
    picture = picture - picture.mean()
    top = (index * 97) % (SEARCH_EDGE - PATCH_EDGE)
    left = (index * 193) % (SEARCH_EDGE - PATCH_EDGE)
    patch = picture[top : top + PATCH_EDGE, left : left + PATCH_EDGE]
    spectrum = np.fft.rfft2(picture) * np.conj(np.fft.rfft2(patch, picture.shape))
    match = np.fft.irfft2(spectrum / np.maximum(np.abs(spectrum), 1e-9))
    found = divmod(int(np.argmax(match)), SEARCH_EDGE)
    answer = f"cut at {top},{left}; found at {found[0]},{found[1]}"
    return answer.encode(), _span(Kind.SEARCH, path.name, begin)


FUNCTIONS = {Kind.THUMBNAIL: thumbnails, Kind.PARSE: parse, Kind.SEARCH: search}
