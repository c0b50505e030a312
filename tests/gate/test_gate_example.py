"""The example of a suite under the gate does what its first lines say."""

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "examples" / "gated_suite"


def run(*options: str) -> "subprocess.CompletedProcess[str]":
    """Run the example's tests."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "offloop", *options],
        cwd=FOLDER,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-c /dev/null"},
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_one_test_of_the_example_fails_under_the_gate():
    assert run().returncode == 0
    ran = run("--offloop-max-stall=50ms")
    assert ran.returncode == 1, ran.stdout
    assert "1 failed, 1 passed" in ran.stdout
    assert "shop.py:12 in digest" in ran.stdout
    assert "cure     return await offloop.to_thread(" in ran.stdout
