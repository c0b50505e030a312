"""A remote traceback names the file and shows the source line, also of what travels by value."""

import pytest

from gates import run_program

pytestmark = pytest.mark.quick

SOURCE = """
import offloop

def plain():
    raise ValueError("plain")  # line of plain

double = lambda: 1 / 0  # line of lambda

def enclose(text):
    def inner():
        raise ValueError(text)  # line of closure
    return inner

class Machine:
    def start(self):
        raise ValueError("method")  # line of method

    @property
    def state(self):
        raise ValueError("property")  # line of property

def read(machine):
    return machine.state  # line of reader

def deep():
    def innermost():
        raise ValueError("deep")  # line of innermost
    return [innermost() for _ in range(1)]

def generate():
    yield 1
    raise ValueError("generator")  # line of generator

def exhaust():
    return list(generate())  # line of exhaust

with offloop.ProcessPool(1) as pool:
    tasks = {
        "plain": (plain,),
        "lambda": (double,),
        "closure": (enclose("closure"),),
        "method": (Machine().start,),
        "property": (read, Machine()),
        "innermost": (deep,),
        "generator": (exhaust,),
    }
    for name, task in tasks.items():
        text = str(pool.submit(*task).exception().__cause__)
        shown = f'File "{__file__}", line ' in text
        print(name, shown, f"# line of {name}" in text)
"""


def test_what_travels_by_value_shows_its_file_and_line(tmp_path):
    done = run_program(tmp_path, SOURCE)
    assert done.returncode == 0, done.stderr
    names = ["plain", "lambda", "closure", "method", "property", "innermost", "generator"]
    assert done.stdout.splitlines() == [f"{name} True True" for name in names]
