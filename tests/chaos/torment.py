"""Signals for workers at random moments."""

import os
import random
import signal
import threading

from gates import children_of


class Tormentor(threading.Thread):
    """Sends signals to random workers until told to stop."""

    def __init__(self, seed: int) -> None:
        super().__init__(daemon=True)
        self._random = random.Random(seed)
        self._enough = threading.Event()

    def run(self) -> None:
        stopped: list[int] = []
        while not self._enough.wait(self._random.uniform(0.01, 0.1)):
            number = self._random.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
            worker = self.choose()
            if worker and send(worker, number) and number == signal.SIGSTOP:
                stopped.append(worker)
            if len(stopped) > 1:
                send(stopped.pop(0), signal.SIGCONT)
        for worker in stopped:
            send(worker, signal.SIGCONT)

    def choose(self) -> int:
        """The process id of one worker that lives now, or 0."""
        workers = workers_of_this_process()
        return self._random.choice(workers) if workers else 0

    def stop(self) -> None:
        """End the torment, with every stopped worker going on."""
        self._enough.set()
        self.join(20)


def send(pid: int, number: int) -> bool:
    """Send a signal if the process is a descendant of ours that still lives."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb"):
            os.kill(pid, number)
    except OSError:
        return False
    return True


def workers_of_this_process() -> list[int]:
    """Process ids of the grandchildren: a zygote is our child, and its children are workers."""
    workers = []
    for child in children_of(os.getpid()):
        workers.extend(children_of(child))
    return workers
