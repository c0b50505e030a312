"""What a worker shares with its program, fact by fact.

Each program asks a worker, changes one fact of itself, and asks three pools again. The first has
run a call before the change, the second was made before it and has run none, the third is made
after it. The last two must always be what the program is; whether the first follows is a column of
the table in docs/guide.md, and of this one.
"""

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

import offloop
from dropping import DROP
from gates import run_program

STATUS = "dict(line.split(':\\t') for line in open('/proc/thread-self/status'))"


@dataclass(frozen=True)
class Fact:
    """How to change a fact, and how to ask for it."""

    change: str
    ask: str
    follows: bool = False
    """Whether a worker that runs has the new value in the calls that are submitted after it."""


FACTS = {
    "sys.path, appended to": Fact("sys.path.append('/n')", "'/n' in sys.path", follows=True),
    "sys.path, another list": Fact("sys.path = ['/n', *sys.path]", "sys.path[0]", follows=True),
    "sys.path, one entry less": Fact("sys.path.remove('/o')", "'/o' in sys.path", follows=True),
    "environment, a new name": Fact(
        "os.environ['NEW'] = '1'", "os.environ.get('NEW')", follows=True
    ),
    "environment, a new value": Fact(
        "os.environ['OLD'] = '2'", "os.environ.get('OLD')", follows=True
    ),
    "environment, a name less": Fact(
        "del os.environ['OLD']", "os.environ.get('OLD')", follows=True
    ),
    "environment, seen by C": Fact(
        "os.environ['OLD'] = '3'",
        "os.popen('echo $OLD').read()",
        follows=True,
    ),
    "working directory": Fact("os.chdir('/')", "os.getcwd()"),
    "arguments": Fact("sys.argv.append('more')", "sys.argv[1:]"),
    "umask": Fact("os.umask(0o127)", f"{STATUS}['Umask']"),
    "niceness": Fact("os.nice(3)", "os.getpriority(os.PRIO_PROCESS, 0)"),
    "cores": Fact(
        "os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])", "os.sched_getaffinity(0)"
    ),
    "scheduling policy": Fact(
        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))",
        "os.sched_getscheduler(0) == os.SCHED_IDLE",
    ),
    "ignored signal": Fact(
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)", "str(signal.getsignal(signal.SIGHUP))"
    ),
    "ignored end of children": Fact(
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)", "str(signal.getsignal(signal.SIGCHLD))"
    ),
    "ignored end of children, in the kernel": Fact(
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        # All but the two that are the C library's own.
        f"int({STATUS}['SigIgn'], 16) & ~(3 << 31)",
    ),
    "users and groups": Fact("drop()", "who()", follows=True),
}

LIMITS = {
    "RLIMIT_CPU": 10_000,
    "RLIMIT_FSIZE": 1 << 40,
    "RLIMIT_DATA": 1 << 40,
    "RLIMIT_STACK": 4 << 20,
    "RLIMIT_RSS": 1 << 40,
    "RLIMIT_NPROC": 2000,
    "RLIMIT_NOFILE": 500,
    "RLIMIT_MEMLOCK": 32768,
    "RLIMIT_AS": 1 << 42,
    "RLIMIT_SIGPENDING": 700,
    "RLIMIT_MSGQUEUE": 4096,
}
for name, value in LIMITS.items():
    limit = f"resource.getrlimit(resource.{name})"
    FACTS[name] = Fact(f"resource.setrlimit(resource.{name}, ({value}, {limit}[1]))", limit)

PROGRAM = """
        import resource, signal

        def ask():
            return {ask}

        sys.path.append("/o")
        os.environ["OLD"] = "1"
        used = offloop.ProcessPool(1)
        old = used.submit(ask).result(20)
        unused = offloop.ProcessPool(1)
        {change}
        fresh = offloop.ProcessPool(1)
        print(repr(old))
        print(repr(ask()))
        for pool in (used, unused, fresh):
            print(repr(pool.submit(ask).result(20)))
"""


@pytest.mark.parametrize("name", FACTS)
def test_worker_is_what_its_program_is(tmp_path, name):
    fact = FACTS[name]
    if name == "cores" and len(os.sched_getaffinity(0)) == 1:
        fact = Fact("None", fact.ask)
    source = DROP + PROGRAM.format(ask=fact.ask, change=fact.change)
    done = run_program(tmp_path, source)
    assert done.returncode == 0, done.stderr
    old, own, used, unused, fresh = done.stdout.splitlines()
    # A program that is not root cannot change its user.
    can_change = not (name == "users and groups" and os.geteuid() != 0) and fact.change != "None"
    assert (old != own) is can_change
    assert (unused, fresh) == (own, own)
    assert used == (own if fact.follows else old)


FLAGS = {
    "optimized": ("-O",),
    "warnings": ("-W", "error::ResourceWarning", "-b"),
    "development mode": ("-X", "dev"),
    "isolated": ("-I",),
    "count of cores": ("-X", "cpu_count=3"),
    "length of integers": ("-X", "int_max_str_digits=5000"),
    "UTF-8 mode": ("-X", "utf8=0"),
}


@pytest.mark.parametrize("name", FLAGS)
def test_options_of_the_interpreter_pass_to_workers(tmp_path, name):
    script = tmp_path / "program.py"
    script.write_text(
        "import os, sys, offloop\n"
        "def ask():\n"
        "    return str(sys.flags), sys.warnoptions, os.cpu_count(), sys.get_int_max_str_digits()\n"
        "with offloop.ProcessPool(1) as pool:\n"
        "    print(pool.submit(ask).result(20) == ask() or pool.submit(ask).result(20), ask())\n"
    )
    command = [sys.executable, *FLAGS[name], str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True "), done.stdout


def test_count_of_cores_in_the_environment_counts(tmp_path):
    done = run_program(
        tmp_path,
        """
        import os
        import offloop

        pool = offloop.ProcessPool()
        print(pool._max_workers == getattr(os, "process_cpu_count", os.cpu_count)())
        print(pool.submit(os.cpu_count).result(20) == os.cpu_count())
        """,
        env_changes={"PYTHON_CPU_COUNT": "3"} if sys.version_info >= (3, 13) else {},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True"]


def remember(*values):
    """Stand for an initializer."""


ARGUMENTS = {
    "nothing": ({}, {}),
    "preload": ({"preload": ["json"]}, {"preload": ["csv"]}),
    "initializer": ({"initializer": remember}, {"initializer": print}),
    "its arguments": (
        {"initializer": remember, "initargs": (1,)},
        {"initializer": remember, "initargs": (2,)},
    ),
    "memory_limit": ({"memory_limit": 1 << 33}, {"memory_limit": 1 << 34}),
    "max_tasks_per_child": ({"max_tasks_per_child": 5}, {"max_tasks_per_child": 6}),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_pools_share_a_worker_only_if_they_start_it_alike(name):
    one, other = ARGUMENTS[name]
    pids = []
    for arguments in (one, one, other):
        with offloop.ProcessPool(1, **arguments) as pool:
            pids.append(pool.submit(os.getpid).result(20))
    assert pids[0] == pids[1]
    assert (pids[0] == pids[2]) is (name == "nothing")


def test_handler_of_the_program_is_not_its_workers(tmp_path):
    done = run_program(
        tmp_path,
        """
        import signal
        import offloop

        signal.signal(signal.SIGUSR1, print)
        with offloop.ProcessPool(1) as pool:
            handler = pool.submit(signal.getsignal, signal.SIGUSR1).result(20)
            print(handler is signal.SIG_DFL)
        """,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
