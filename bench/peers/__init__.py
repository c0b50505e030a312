"""Who is measured: our entrances first, then the standard library, then the other packages."""

from __future__ import annotations

from collections.abc import Callable

from bench.peers.base import Peer
from bench.peers.own import OffloopExecutorPeer, OffloopPeer, OffloopPoolPeer
from bench.peers.standard import MultiprocessingPeer, StandardPeer
from bench.peers.third_party import AnyioPeer, BilliardPeer, LokyPeer, MpirePeer, PebblePeer

#: In the order of the tables. Making a peer imports its package, in the measuring process only.
PEERS: dict[str, Callable[[], Peer]] = {
    "offloop": OffloopPeer,
    "offloop-executor": OffloopExecutorPeer,
    "offloop-pool": OffloopPoolPeer,
    # The standard pool again, in a program that runs under `offloop run`, which adopts it.
    "offloop-adopted": lambda: StandardPeer(None),
    "ppe-forkserver": lambda: StandardPeer("forkserver"),
    "ppe-spawn": lambda: StandardPeer("spawn"),
    "ppe-fork": lambda: StandardPeer("fork"),
    "multiprocessing": MultiprocessingPeer,
    "loky": LokyPeer,
    "pebble": PebblePeer,
    "billiard": BilliardPeer,
    "mpire": MpirePeer,
    "anyio": AnyioPeer,
}

#: Measured by starting the measuring process under `offloop run`.
ADOPTED = frozenset({"offloop-adopted"})
