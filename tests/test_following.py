"""Changes of the program reach its workers in the order of its calls, and leave their own alone."""

import os

from dropping import DROP
from gates import run_program

START = """
        import os, sys
        import calls
        import offloop

        def ask():
            return os.environ.get("NAME"), "/new" in sys.path, os.getpid()

        def hold_and_ask(gate):
            gate.report()
            gate.wait()
            return ask()

        gate = calls.Gate(sys.argv[1], sys.argv[2])
"""


def test_calls_see_what_was_so_when_they_were_submitted_or_later(tmp_path, gate):
    gate.release()
    done = run_program(
        tmp_path,
        f"""{START}
        with offloop.ProcessPool(1) as pool:
            pid = pool.submit(os.getpid).result(20)
            first = pool.submit(hold_and_ask, gate)
            queued = pool.submit(ask)
            os.environ["NAME"] = "new"
            sys.path.append("/new")
            later = [pool.submit(ask) for _ in range(3)]
            print([future.result(20) == ("new", True, pid) for future in later])
            print(first.result(20) in [(None, False, pid), ("new", True, pid)])
            print(queued.result(20) in [(None, False, pid), ("new", True, pid)])
        """,
        gate.paths.started,
        gate.paths.released,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[True, True, True]", "True", "True"]


def test_every_change_is_followed_by_every_worker(tmp_path):
    done = run_program(
        tmp_path,
        """
        import os
        import offloop

        def ask():
            return int(os.environ["NUMBER"])

        def after(number):
            os.environ["NUMBER"] = str(number)
            return pool.submit(ask)

        with offloop.ProcessPool(3) as pool:
            answers = [future.result(20) for future in [after(number) for number in range(300)]]
        print(all(answer >= number for number, answer in enumerate(answers)))
        """,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_what_a_worker_has_changed_by_itself_stays(tmp_path):
    done = run_program(
        tmp_path,
        """
        import os, sys
        import offloop

        def begin():
            sys.path.insert(0, "/first")
            sys.path.append("/last")
            os.environ["OWN"] = "kept"

        def ask():
            return sys.path[0], sys.path[-1], "/new" in sys.path, os.environ.get("OWN")

        with offloop.ProcessPool(1, initializer=begin) as pool:
            print(pool.submit(ask).result(20))
            sys.path.append("/new")
            os.environ["OTHER"] = "1"
            print(pool.submit(ask).result(20))
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "('/first', '/last', False, 'kept')",
        "('/first', '/last', True, 'kept')",
    ]


def test_initializer_of_a_later_worker_follows_too(tmp_path):
    done = run_program(
        tmp_path,
        """
        import os
        import offloop

        def begin():
            global seen
            seen = os.environ.get("NAME")

        def read():
            return seen

        with offloop.ProcessPool(1, initializer=begin) as pool:
            print(pool.submit(read).result(20))
            os.environ["NAME"] = "new"
            print(pool.submit(read).result(20))
            print(type(pool.submit(os.abort).exception(20)).__name__)
            print(pool.submit(read).result(20))
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["None", "None", "WorkerCrashed", "new"]


def test_module_that_appears_in_a_new_folder_is_found(tmp_path):
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "came_later.py").write_text("def answer():\n    return 42\n")
    done = run_program(
        tmp_path,
        """
        import sys
        import offloop

        with offloop.ProcessPool(1) as pool:
            pool.submit(abs, -1).result(20)
            sys.path.append(sys.argv[1])
            import came_later
            print(pool.submit(came_later.answer).result(20))
        """,
        str(tmp_path / "later"),
    )
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


def test_large_environment_travels_too(tmp_path):
    done = run_program(
        tmp_path,
        """
        import os
        import offloop

        with offloop.ProcessPool(1) as pool:
            pool.submit(abs, -1).result(20)
            os.environ.update({f"NAME{n}": str(n) * 100 for n in range(500)})
            print(pool.submit(os.getenv, "NAME499").result(20) == "499" * 100)
        """,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_no_worker_keeps_the_privileges_that_its_program_gave_up(tmp_path):
    done = run_program(
        tmp_path,
        f"""{DROP}
        import select

        used, unused = offloop.ProcessPool(2), offloop.ProcessPool(1, memory_limit=1 << 33)
        with used, unused, offloop.ProcessPool(1, memory_limit=1 << 34) as forgotten:
            pids = {{pool.submit(os.getpid).result(20) for pool in (used, forgotten)}}
            ends = [os.pidfd_open(pid) for pid in pids]
            drop()
            for pool in (used, unused, offloop.ProcessPool(1)):
                print(pool.submit(who).result(20) == who())
            if os.geteuid() == 12347:
                # The forgotten pool gets no call, and its worker ends all the same.
                print(all(select.select([end], [], [], 20)[0] for end in ends))
                print(used.statistics().completed)
            else:
                print(True, 2, sep="\\n")
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True", "True", "True", "2"]


def test_call_of_a_worker_that_may_not_be_signalled_any_more_can_be_stopped(tmp_path):
    done = run_program(
        tmp_path,
        f"""{DROP}
        import select
        import calls

        os.mkfifo(sys.argv[1] + "/started", 0o666)
        gate = calls.Gate(sys.argv[1] + "/started", "")
        with offloop.ProcessPool(1, grace=0.05) as pool:
            future = pool.submit(calls.refuse_to_stop, gate)
            with open(gate.started) as started:
                end = os.pidfd_open(int(started.readline().split()[0]))
            drop()
            future.cancel()
            print(bool(select.select([end], [], [], 20)[0]))
            print(pool.submit(who).result(20) == who())
        """,
        str(tmp_path),
        env_changes={"PYTHONPATH": os.path.dirname(__file__)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True"]
