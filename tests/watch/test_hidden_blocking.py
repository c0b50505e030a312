"""The example with a hidden blocking call for each cause, as a stranger runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RUNS_MAX = 4
"""On a busy machine the system may be to blame for a stall, and then no line is."""

CAUSES = {
    "shop/catalogue.py": "waits for the file",
    "shop/stock.py": "waits for a lock",
    "shop/labels.py": "waits for the child process",
    "shop/customers.py": "without the GIL",
    "shop/posters.py": "without the GIL",
    "shop/search.py": "keeps the GIL",
    "shop/recommendations.py": "Python code computes",
    "shop/orders.py": "has the GIL; the stack is that thread's",
    "shop/sessions.py": "collects garbage",
}


@pytest.mark.needs("fastapi", "uvicorn", "httpx", "PIL")
def test_each_hidden_call_is_named_with_its_cause_and_a_cure():
    named = {}
    for _ in range(RUNS_MAX):
        ended = subprocess.run(
            [os.path.join(os.path.dirname(sys.executable), "offloop"), "run", "hidden_blocking.py"],
            cwd=EXAMPLES,
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        )
        for block in re.split(r"\n(?=offloop: )", ended.stderr):
            place = re.search(r"╭─ (shop/\w+\.py):\d+ in ", block)
            cause = re.search(r"│ cause (.*?)│ cure", block, re.DOTALL)
            if place and cause:
                words = " ".join(cause[1].replace("│", "").split())
                named.setdefault(place[1], set()).add(words)
        wrong = {
            file: named.get(file)
            for file, cause in CAUSES.items()
            if not any(cause in words for words in named.get(file, ()))
        }
        if not wrong:
            return
    raise AssertionError(f"not named with their cause: {wrong}")
