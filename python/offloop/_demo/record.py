"""What the demo's processes tell each other: spans of work, beats of the heart, requests served.

Units: seconds on the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

BEAT_SECONDS = 0.005
"""The heartbeat's period: fine enough to show a stall that a person cannot yet see."""


class Way(StrEnum):
    """Where the service does its work."""

    LOOP = "loop"
    THREADS = "threads"
    POOL = "pool"
    OFFLOOP = "offloop"


class Kind(StrEnum):
    """What a request asks for."""

    THUMBNAIL = "thumbnail"
    PARSE = "parse"
    SEARCH = "search"


@dataclass(frozen=True)
class Span:
    """One call of a work function: what, where, when."""

    kind: Kind
    label: str
    pid: int
    thread: int
    begin: float
    end: float


@dataclass(frozen=True)
class ServiceRecord:
    """What the service saw of itself."""

    pid: int
    loop_thread: int
    beats: list[float]
    spans: list[Span]
    blamed: list[str]

    @classmethod
    def from_json(cls, data: dict[str, object]) -> ServiceRecord:
        """Rebuild a record that came through JSON."""
        fields = dict(data)
        rows = fields.pop("spans")
        assert isinstance(rows, list)
        spans = [Span(**{**row, "kind": Kind(row["kind"])}) for row in rows]
        return cls(**fields, spans=spans)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ClientRecord:
    """What the client saw of the service."""

    begin: float
    end: float
    served: int
    failed: int
    health_seconds: list[float]


@dataclass(frozen=True)
class WayRecord:
    """One way, from both sides."""

    way: Way
    service: ServiceRecord
    client: ClientRecord

    @property
    def seconds(self) -> float:
        """How long the client asked."""
        return self.client.end - self.client.begin

    @property
    def requests_per_second(self) -> float:
        """Answered requests in each second."""
        return self.client.served / self.seconds

    @property
    def slowest_health_seconds(self) -> float:
        """The longest that the empty request had to wait."""
        return max(self.client.health_seconds, default=self.seconds)

    def gaps(self) -> list[tuple[float, float]]:
        """The times between two beats, while the client asked."""
        begin, end = self.client.begin, self.client.end
        beats = [beat for beat in self.service.beats if begin <= beat <= end]
        return list(zip([begin, *beats], [*beats, end], strict=True))

    @property
    def worst_gap_seconds(self) -> float:
        """The longest time without a beat."""
        return max(end - begin for begin, end in self.gaps())

    @property
    def stuck_share(self) -> float:
        """The part of the time that lay in gaps a person would notice."""
        stuck = sum(end - begin for begin, end in self.gaps() if end - begin > STUCK_SECONDS)
        return stuck / self.seconds


STUCK_SECONDS = 0.050
"""A loop silent for this long is drawn as stuck: ten beats are missing."""
