"""How the main module travels is told: by `offloop doctor`, and in the report of `offloop run`."""

import json


def test_report_says_whether_workers_import_the_main_module(run_source):
    body = """
    import offloop
    def use(): return 1
    def main():
        with offloop.ProcessPool(1) as pool:
            print(pool.submit(use).result())
    """
    guarded = run_source(body + "\n    if __name__ == '__main__':\n        main()\n")
    assert (guarded.returncode, guarded.stdout) == (0, "1\n")
    assert "main module imported by workers: guarded in line" in guarded.stderr
    script = run_source(body + "\n    main()\n")
    assert (script.returncode, script.stdout) == (0, "1\n")
    assert "main module sent to workers by value: its line" in script.stderr


def test_report_names_the_global_that_every_call_pickles(run_source):
    ended = run_source(
        """
        import time
        import offloop
        class Slow:
            def __init__(self, n): self.n = n
            def __reduce__(self):
                time.sleep(0.005)
                return Slow, (self.n,)
        quick, once = [1], Slow(0)
        def use(): return slow.n + quick[0] + once.n
        with offloop.ProcessPool(1) as pool:
            for n in range(8):
                slow = Slow(n)
                quick = [n]
                assert pool.submit(use).result() == 2 * n
        """
    )
    assert ended.returncode == 0, ended.stderr
    report = " ".join(ended.stderr.split())
    assert "sent use: pickling the global `slow` took" in report
    assert "`quick`" not in report
    assert "it changes between calls" in report


def test_doctor_says_how_the_main_module_of_a_program_travels(offloop_command, tmp_path):
    script = tmp_path / "script.py"
    for source, value in (
        ("print(1)\n", "by value, its line 1 runs without a guard"),
        ("import os\nif __name__ == '__main__':\n    pass\n", "imported, guarded in line 2"),
    ):
        script.write_text(source, encoding="utf-8")
        ended = offloop_command("doctor", "--json", str(script))
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)[-1]["value"] == value
    missing = offloop_command("doctor", str(tmp_path / "missing.py"))
    assert missing.returncode == 2
    assert "missing.py" in missing.stderr
