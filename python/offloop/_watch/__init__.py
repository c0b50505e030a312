"""The watch: stalls of event loops found while they last, and what is said of them."""

from offloop._watch.facts import Place, TaskFacts
from offloop._watch.losses import Loss, LossKind, LossMoment, Waiting
from offloop._watch.own import own_code
from offloop._watch.records import (
    Blocked,
    Culprit,
    NativeEntry,
    StackEntry,
    Stall,
    StallCause,
    StalledTask,
    WatchStatistics,
)
from offloop._watch.switch import (
    THRESHOLD_SECONDS_MAX,
    THRESHOLD_SECONDS_MIN,
    Watch,
    Watching,
    watch,
)

__all__ = [
    "THRESHOLD_SECONDS_MAX",
    "THRESHOLD_SECONDS_MIN",
    "Blocked",
    "Culprit",
    "Loss",
    "LossKind",
    "LossMoment",
    "NativeEntry",
    "Place",
    "StackEntry",
    "Stall",
    "StallCause",
    "StalledTask",
    "TaskFacts",
    "Waiting",
    "Watch",
    "WatchStatistics",
    "Watching",
    "own_code",
    "watch",
]
