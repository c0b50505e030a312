"""What is measured: our entrances first, then the standard library, then the other packages."""

from __future__ import annotations

from bench.harness.goals import Against
from bench.harness.rows import Contender, Role
from bench.pools.peers.own import OffloopExecutorPeer, OffloopPeer, OffloopPoolPeer
from bench.pools.peers.standard import MultiprocessingPeer, StandardPeer
from bench.pools.peers.third_party import (
    AnyioPeer,
    BilliardPeer,
    LokyPeer,
    MpirePeer,
    PebblePeer,
)

#: Two processes without Python.
FLOOR = "floor"

_ALL = (
    Contender(FLOOR, None, role=Role.FLOOR),
    Contender("offloop", OffloopPeer, "offloop", role=Role.OURS),
    Contender("offloop-executor", OffloopExecutorPeer, "offloop", role=Role.OURS),
    Contender("offloop-pool", OffloopPoolPeer, "offloop", role=Role.OURS),
    # The standard pool again, in a program that runs under `offloop run`, which adopts it.
    Contender(
        "offloop-adopted",
        lambda: StandardPeer(None),
        "offloop",
        role=Role.OURS,
        launcher=("-m", "offloop", "run"),
    ),
    Contender(
        "ppe-forkserver",
        lambda: StandardPeer("forkserver"),
        sign=("s", "#57606a"),
        head="PPE forkserver",
    ),
    Contender("ppe-spawn", lambda: StandardPeer("spawn"), sign=("D", "#8b949e"), head="PPE spawn"),
    Contender("ppe-fork", lambda: StandardPeer("fork"), sign=("P", "#8b949e"), head="PPE fork"),
    Contender("multiprocessing", MultiprocessingPeer, sign=("^", "#9a6700"), head="mp.Pool"),
    Contender("loky", LokyPeer, "loky", sign=("v", "#8250df")),
    Contender("pebble", PebblePeer, "pebble", sign=("<", "#0969da")),
    Contender("billiard", BilliardPeer, "billiard", sign=(">", "#bf3989")),
    Contender("mpire", MpirePeer, "mpire", sign=("X", "#1b7c83")),
    Contender("anyio", AnyioPeer, "anyio", sign=("*", "#bc4c00")),
)

CONTENDERS = {contender.name: contender for contender in _ALL}

#: All contenders that a row about pools is put to, beside our entrances.
PEERS = tuple(contender.name for contender in _ALL if contender.role is Role.PEER)

#: The best of the standard pool's three start methods.
PPE = Against("PPE", ("ppe-forkserver", "ppe-spawn", "ppe-fork"))
#: The start method whose start-up we share, and the default from CPython 3.14 on.
PPE_FORKSERVER = Against("PPE (forkserver)", ("ppe-forkserver",))
