"""The watch: stalls of event loops found while they last, and what is said of them."""

from offloop._watch.records import StackEntry, Stall, StalledTask
from offloop._watch.switch import Watch, watch

__all__ = ["StackEntry", "Stall", "StalledTask", "Watch", "watch"]
