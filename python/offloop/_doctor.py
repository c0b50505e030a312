"""``offloop doctor``: what this machine offers, each finding with what it means for offloop.

A probe is a function that looks at one thing and returns a `Finding`.  Probes only look: what they
open they close, and the one child that they start ends at once.  A probe that fails is a finding
too.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import json
import os
import platform
import resource
import select
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
IO_URING_SETUP = 425
"""The number of the system call, the same on x86-64 and aarch64."""


class Grade(StrEnum):
    """What a finding means."""

    GOOD = "good"
    FAIR = "fair"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """One thing about this machine."""

    name: str
    value: str
    grade: Grade
    meaning: str


def good(name: str, value: str, meaning: str) -> Finding:
    """A finding that offloop likes."""
    return Finding(name, value, Grade.GOOD, meaning)


def fair(name: str, value: str, meaning: str) -> Finding:
    """A finding that offloop can live with."""
    return Finding(name, value, Grade.FAIR, meaning)


def bad(name: str, value: str, meaning: str) -> Finding:
    """A finding that offloop cannot work with."""
    return Finding(name, value, Grade.BAD, meaning)


def probe_kernel() -> Finding:
    """Linux, and new enough for pidfds."""
    release = platform.release()
    value = f"{platform.system()} {release} on {platform.machine()}"
    if sys.platform != "linux":
        return bad("kernel", value, "offloop runs on Linux only, for now")
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    if version < (5, 4):
        return bad("kernel", value, "too old: pidfd supervision needs Linux 5.4")
    return good("kernel", value, "has all that the process lanes need")


def probe_cpus() -> Finding:
    """Cores that this process may use, and what its control group leaves of them."""
    allowed = len(os.sched_getaffinity(0))
    quota = cgroup_cpus()
    value = f"{allowed} of {os.cpu_count()} cores"
    if quota is not None and quota < allowed:
        return fair(
            "CPUs",
            f"{value}, quota {quota:.2g}",
            f"the quota throttles more than {max(1, int(quota))} busy workers: set max_workers",
        )
    if allowed == 1:
        return fair("CPUs", value, "one core: workers take turns with the loop")
    return good("CPUs", value, f"a pool has {allowed} workers unless told otherwise")


def probe_memory() -> Finding:
    """Memory of the machine, and the limit of the control group."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = cgroup_number("memory.max")
    value = f"{total / GIB:.1f} GiB"
    if limit is None or limit >= total:
        return good("memory", f"{value}, no limit", "workers share what the machine has")
    meaning = "the kernel ends a worker that would pass this: that call fails with WorkerCrashed"
    return good("memory", f"{value}, limit {limit / GIB:.1f} GiB", meaning)


def probe_pidfd() -> Finding:
    """Whether a process can be held by a descriptor."""
    descriptor = os.pidfd_open(os.getpid())
    os.close(descriptor)
    return good("pidfd", "works", "the end of a worker is seen at once, and never mistaken")


def probe_memfd() -> Finding:
    """Whether anonymous memory can be shared and sealed."""
    descriptor = os.memfd_create("offloop-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, 4096)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    finally:
        os.close(descriptor)
    if not sealed:
        return bad("memfd", "without seals", "shared memory could be cut off under a reader")
    return good("memfd", "works, with seals", "large arguments travel through shared memory")


def probe_fork() -> Finding:
    """Whether a process can be forked, and how fast."""
    begin = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    descriptor = os.pidfd_open(pid)
    select.select([descriptor], [], [])
    os.close(descriptor)
    os.waitpid(pid, 0)
    micros = (time.monotonic() - begin) * 1e6
    return good("fork", f"{micros:.0f} us with its end", "what a warm worker costs, at the least")


def probe_shm() -> Finding:
    """The size of /dev/shm."""
    try:
        status = os.statvfs("/dev/shm")
    except OSError:
        return good("/dev/shm", "absent", "not used: offloop shares memory without names")
    size = status.f_frsize * status.f_blocks / MIB
    return good("/dev/shm", f"{size:,.0f} MiB", "not used: offloop shares memory without names")


def probe_huge_pages() -> Finding:
    """Whether shared memory may use huge pages."""
    setting = chosen("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    meaning = "fresh shared memory is faulted in 2 MiB at a time"
    if setting in ("always", "within_size", "advise", "force"):
        return good("huge pages", f"shmem: {setting}", meaning)
    meaning = "first use of shared memory is slower; recycled memory is not"
    return fair("huge pages", f"shmem: {setting or 'unknown'}", meaning)


def probe_io_uring() -> Finding:
    """Whether io_uring may be used; offloop does not need it."""
    # A null pointer is refused with EFAULT where the call is allowed, so nothing is set up.
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall(IO_URING_SETUP, 1, None)
    number = ctypes.get_errno()
    if number in (errno.EFAULT, errno.EINVAL):
        return good("io_uring", "allowed", "not needed: the lanes use epoll")
    reason = errno.errorcode.get(number, str(number))
    return good("io_uring", f"refused ({reason})", "not needed: the lanes use epoll")


def probe_tracing() -> Finding:
    """Which users may look into processes."""
    ptrace = read("/proc/sys/kernel/yama/ptrace_scope") or "open"
    perf = read("/proc/sys/kernel/perf_event_paranoid") or "absent"
    value = f"ptrace scope {ptrace}, perf paranoid {perf}"
    return good("tracing", value, "only matters for profilers such as py-spy and perf")


def probe_seccomp() -> Finding:
    """Whether system calls are filtered, as in containers."""
    modes = {"0": "no filter", "1": "strict", "2": "filtered"}
    mode = status_field("Seccomp") or "0"
    if mode == "0":
        return good("seccomp", modes[mode], "no system call is withheld")
    return fair("seccomp", modes.get(mode, mode), "a container's filter: the probes here count")


def probe_open_files() -> Finding:
    """The limit of open descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    value = f"{limit_text(soft)}, at most {limit_text(hard)}"
    if soft != resource.RLIM_INFINITY and soft < 256:
        return bad("open files", value, "too few: each worker holds several (ulimit -n 1024)")
    return good("open files", value, "each worker holds several")


def probe_processes() -> Finding:
    """The limits of processes: of the user, and of the control group."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    group = cgroup_number("pids.max")
    limits = [limit for limit in (soft, group) if limit not in (None, resource.RLIM_INFINITY)]
    least = min(limits, default=None)
    value = "no limit" if least is None else f"{least:,}"
    if least is not None and least < 64:
        return fair("processes", value, "few: keep max_workers small")
    return good("processes", value, "workers and threads count against this")


def probe_python() -> Finding:
    """The interpreter and how it was built."""
    version = f"{platform.python_implementation()} {platform.python_version()}"
    is_free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    notes = [
        word
        for word, is_so in (
            ("debug", hasattr(sys, "gettotalrefcount")),
            ("free-threaded", is_free_threaded),
        )
        if is_so
    ]
    value = ", ".join([version, *notes])
    if platform.python_implementation() != "CPython" or sys.version_info < (3, 11):
        return bad("Python", value, "offloop needs CPython 3.11 or newer")
    if is_free_threaded:
        return fair("Python", value, "untried without the GIL")
    return good("Python", value, "supported")


def probe_extension() -> Finding:
    """Whether the extension module loads, and a call through it works."""
    import offloop

    begin = time.monotonic()
    with offloop.ProcessPool(1) as pool:
        pool.submit(os.getpid).result(timeout=30)
    millis = (time.monotonic() - begin) * 1e3
    value = f"offloop {offloop.__version__}, first call {millis:.0f} ms"
    return good("offloop", value, "a worker started and answered")


def probe_main_module(script: str) -> Finding:
    """Whether workers import the program's main module, or get it by value."""
    from offloop._main import examine as examine_main

    decided = examine_main(script, None)
    if decided.is_imported:
        meaning = "its functions and classes travel by name, as with spawn and forkserver"
        return good("main module", f"imported, {decided.reason}", meaning)
    meaning = "its functions and the globals that they use are sent, once for each version"
    return fair("main module", f"by value, {decided.reason}", meaning)


PROBES: tuple[Callable[[], Finding], ...] = (
    probe_kernel,
    probe_python,
    probe_cpus,
    probe_memory,
    probe_pidfd,
    probe_memfd,
    probe_fork,
    probe_open_files,
    probe_processes,
    probe_shm,
    probe_huge_pages,
    probe_seccomp,
    probe_io_uring,
    probe_tracing,
    probe_extension,
)


def examine(script: str | None = None) -> list[Finding]:
    """Run every probe, and look at a program's main module if one is named."""
    findings = [_attempt(probe) for probe in PROBES]
    if script is not None:
        findings.append(_attempt(functools.partial(probe_main_module, script)))
    return findings


def _attempt(probe: Callable[[], Finding]) -> Finding:
    try:
        return probe()
    except Exception as error:
        function = getattr(probe, "func", probe)
        name = function.__name__.removeprefix("probe_").replace("_", " ")
        return bad(name, f"{type(error).__name__}: {error}", "offloop needs this")


def run_doctor(*, as_json: bool, script: str | None = None) -> int:
    """Print the findings; the exit status is 1 when something that offloop needs is missing."""
    findings = examine(script)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print_findings(findings)
    return int(any(finding.grade is Grade.BAD for finding in findings))


def _print_findings(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {Grade.GOOD: ("✓", "green"), Grade.FAIR: ("!", "yellow"), Grade.BAD: ("✗", "bold red")}
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    for column in ("mark", "name", "value", "meaning"):
        table.add_column(column, no_wrap=column in ("mark", "name"))
    for finding in findings:
        mark, style = marks[finding.grade]
        table.add_row(
            Text(mark, style=style),
            Text(finding.name, style="bold"),
            Text(finding.value, style=style if finding.grade is not Grade.GOOD else ""),
            Text(finding.meaning, style="dim"),
        )
    console = Console(highlight=False)
    console.print(table)
    missing = [finding.name for finding in findings if finding.grade is Grade.BAD]
    if missing:
        console.print(f"\n[bold red]offloop cannot work here:[/] {', '.join(missing)}")
    else:
        console.print("\n[bold green]offloop can work here.[/]")


def read(path: str) -> str | None:
    """The text of a small file of the kernel, or None."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def chosen(path: str) -> str | None:
    """The value in brackets of a kernel setting that lists its choices."""
    words = (read(path) or "").split()
    return next((word.strip("[]") for word in words if word.startswith("[")), None)


def status_field(name: str) -> str | None:
    """A field of /proc/self/status."""
    for line in (read("/proc/self/status") or "").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return None


def cgroup_folders() -> list[Path]:
    """The control groups around this process, innermost first (version 2)."""
    line = next((x for x in (read("/proc/self/cgroup") or "").splitlines() if x[:3] == "0::"), "")
    root = Path("/sys/fs/cgroup")
    inner = root / line[3:].lstrip("/")
    return [inner, *(parent for parent in inner.parents if parent.is_relative_to(root))]


def cgroup_number(name: str) -> int | None:
    """The tightest limit called ``name`` around this process, or None."""
    texts = [read(str(folder / name)) for folder in cgroup_folders()]
    numbers = [int(text) for text in texts if text is not None and text.isdigit()]
    return min(numbers, default=None)


def cgroup_cpus() -> float | None:
    """The tightest CPU quota around this process, in cores, or None."""
    quotas = []
    for folder in cgroup_folders():
        words = (read(str(folder / "cpu.max")) or "max").split()
        if words[0].isdigit() and len(words) == 2:
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def limit_text(limit: int) -> str:
    """A resource limit in words."""
    return "no limit" if limit == resource.RLIM_INFINITY else f"{limit:,}"
