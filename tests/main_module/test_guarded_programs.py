"""Programs with a guarded main module: in a worker they find what spawn and forkserver give them.

Each program runs three times: on the standard pool with its spawn method, on ours, and on the
standard class under `offloop run`. All three print the same. Each line is one kind of thing that a
function of `__main__` may rest upon.
"""

import os
import subprocess
import sys
import textwrap

import pytest

BOUND_S = 60

STANDARD = (
    "from concurrent.futures import ProcessPoolExecutor\n"
    "from multiprocessing import get_context\n"
    "def make_pool(**options):\n"
    "    return ProcessPoolExecutor(1, get_context('spawn'), **options)\n"
)
OURS = "import offloop\ndef make_pool(**options):\n    return offloop.ProcessPool(1, **options)\n"

PROGRAMS = {
    "lru_cache": """
        from functools import cache, lru_cache
        made = []
        @lru_cache
        def square(n):
            made.append(n)
            return n * n
        @cache
        def cube(n):
            return n ** 3
        def use():
            return square(3), square(3), made, cube(2)
        if __name__ == "__main__":
            with make_pool() as pool:
                print(pool.submit(use).result(), pool.submit(use).result())
                print(pool.submit(square, 4).result(), made)
    """,
    "pydantic": """
        from pydantic import BaseModel, TypeAdapter, field_validator
        class Order(BaseModel):
            price: float
            tags: list[str] = []
            @field_validator("price")
            @classmethod
            def is_positive(cls, value):
                if value <= 0:
                    raise ValueError("no price")
                return value
        orders = TypeAdapter(list[Order])
        def parse(text):
            return orders.validate_json(text)
        if __name__ == "__main__":
            with make_pool() as pool:
                [order] = pool.submit(parse, '[{"price": 2.5}]').result()
                print(order, type(order) is Order, isinstance(order, Order))
                print(type(pool.submit(parse, '[{"price": -1}]').exception()).__name__)
                print(pool.submit(Order.model_dump, order).result())
    """,
    "msgspec": """
        import msgspec
        class Event(msgspec.Struct):
            name: str
            size: int = 0
        decoder = msgspec.json.Decoder(Event)
        def parse(text):
            return decoder.decode(text)
        if __name__ == "__main__":
            with make_pool() as pool:
                event = pool.submit(parse, b'{"name": "a", "size": 3}').result()
                print(event, type(event) is Event)
                print(pool.submit(msgspec.structs.asdict, event).result())
    """,
    "sqlalchemy": """
        from sqlalchemy import create_engine, select
        from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
        class Base(DeclarativeBase):
            pass
        class User(Base):
            __tablename__ = "users"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]
        engine = create_engine("sqlite://")
        def count(names):
            Base.metadata.create_all(engine)
            with Session(engine) as session:
                session.add_all(User(name=name) for name in names)
                session.commit()
                return len(session.scalars(select(User)).all())
        if __name__ == "__main__":
            with make_pool() as pool:
                print(pool.submit(count, ["a", "b"]).result(), sorted(Base.metadata.tables))
                user = pool.submit(User, name="c").result()
                print(user.name, type(user) is User)
    """,
    "what_cannot_be_pickled": """
        import contextvars, sqlite3, threading
        lock, condition, event = threading.Lock(), threading.Condition(), threading.Event()
        variable = contextvars.ContextVar("variable", default="default")
        local = threading.local()
        database = sqlite3.connect(":memory:", check_same_thread=False)
        counter = iter(range(10))
        def generate():
            yield 1
        running = generate()
        def use():
            local.value = getattr(local, "value", 0) + 1
            with lock, condition:
                event.set()
                return (variable.get(), database.execute("select 1").fetchone(), local.value,
                        next(counter), next(running, None), event.is_set())
        if __name__ == "__main__":
            with make_pool() as pool:
                print(pool.submit(use).result())
                print(pool.submit(use).result())
                print(event.is_set())
    """,
    "names_at_run_time": """
        import inspect, pickle, sys, typing
        from dataclasses import dataclass
        @dataclass
        class Node:
            value: int
            next: "Node | None" = None
        class Outer:
            class Inner:
                x = 1
        def look_up(name):
            return globals()[name].__qualname__
        def hints():
            return sorted(typing.get_type_hints(Node))
        def source():
            return inspect.getsource(Node).splitlines()[1].strip()
        def through_pickle():
            node = pickle.loads(pickle.dumps(Node(1, Node(2))))
            return type(node) is Node, type(node.next) is Node
        def through_module():
            return sys.modules["__main__"].Node is Node, sys.modules[Node.__module__].Node is Node
        if __name__ == "__main__":
            with make_pool() as pool:
                print(pool.submit(look_up, "Node").result(), pool.submit(hints).result())
                print(pool.submit(source).result(), pool.submit(through_pickle).result())
                print(pool.submit(through_module).result())
                node = pool.submit(Node, 1, Node(2)).result()
                print(node, type(node) is Node, type(pool.submit(Outer.Inner).result()).__name__)
    """,
    "effects_of_the_import": """
        import json, os, sys
        os.environ["OF_THE_IMPORT"] = "yes"
        sys.path.append("/of-the-import")
        json.registered = "here"
        json.JSONEncoder.default = lambda self, value: "other"
        def use():
            return os.environ["OF_THE_IMPORT"], "/of-the-import" in sys.path, json.registered
        def encode():
            return json.dumps(object())
        if __name__ == "__main__":
            with make_pool() as pool:
                print(pool.submit(use).result(), pool.submit(encode).result())
                print(pool.submit(json.dumps, {"a": 1}).result())
    """,
    "threads_of_the_import": """
        import queue, threading
        questions, answers = queue.Queue(), queue.Queue()
        def answer():
            while True:
                answers.put(questions.get() * 2)
        threading.Thread(target=answer, daemon=True).start()
        model = None
        def load():
            global model
            questions.put(21)
            model = answers.get(timeout=30)
        def ask(n):
            questions.put(n)
            return answers.get(timeout=30), model
        if __name__ == "__main__":
            with make_pool(initializer=load) as pool:
                print([pool.submit(ask, n).result() for n in range(4)])
    """,
    "classes_that_refer_to_each_other": """
        class Form:
            class Meta: pass
        Form.Meta.form = Form
        class Owner: child = None
        class Child: owner = Owner
        Owner.child = Child
        class Base:
            kinds = []
            def __init_subclass__(cls): Base.latest = cls; Base.kinds.append(cls.__name__)
        class Impl(Base): parent = Base
        layer = type("L", (), {})
        for n in range(20):
            layer = type("L", (), {"x": layer, "y": layer, "__module__": __name__})
        def use():
            return (Form.Meta.form is Form, Owner.child.owner is Owner, Base.latest.parent is Base,
                    Base.kinds, layer.x is layer.y)
        if __name__ == "__main__":
            with make_pool() as pool:
                print(pool.submit(use).result(30))
    """,
    "state_of_the_worker": """
        seen = []
        class Counter:
            made = 0
            by_name = {}
            def __init__(self, name):
                Counter.made += 1
                Counter.by_name[name] = self.number = Counter.made
        def note(value):
            seen.append(value)
            return seen
        def make(name):
            Counter(name)
            return Counter.made, sorted(Counter.by_name)
        def given(counter):
            return counter.number, Counter.made
        if __name__ == "__main__":
            with make_pool() as pool:
                print([pool.submit(note, n).result() for n in range(3)], seen)
                print([pool.submit(make, n).result() for n in "ab"], Counter.made)
                here = Counter("here")
                print(pool.submit(make, "c").result()[0] > 2, Counter.by_name)
    """,
    "initializer": """
        model, table, names = None, {}, []
        class Model:
            loaded = False
            parts = {}
        def load(name):
            global model
            model = [name]
            table["model"] = name
            names.append(name)
            Model.loaded = True
            Model.parts["name"] = name
            globals()["copied"] = name
        def use():
            return model, table, names, Model.loaded, Model.parts, globals()["copied"]
        def others():
            return names[0], Model.parts["name"]
        def takes(given):
            return given.loaded, Model.loaded, Model.parts
        if __name__ == "__main__":
            with make_pool(initializer=load, initargs=("m",)) as pool:
                print(pool.submit(use).result(), pool.submit(others).result())
                print(pool.submit(takes, Model()).result(), pool.submit(use).result())
                print(model, table, names, Model.loaded)
    """,
    "nested_pools": """
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        class Part:
            def __init__(self, n):
                self.n = n
        def inner(part):
            return Part(part.n + 1)
        def in_ours(n):
            with make_pool() as pool:
                return pool.submit(inner, Part(n)).result()
        def in_standard(n):
            with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
                return pool.submit(inner, Part(n)).result()
        def in_pool(n):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                return pool.map(inner, [Part(n)])[0]
        if __name__ == "__main__":
            with make_pool() as pool:
                for use in (in_ours, in_standard, in_pool):
                    part = pool.submit(use, 1).result()
                    print(part.n, type(part) is Part)
    """,
    "errors": """
        class Problem(Exception):
            def __init__(self, code):
                super().__init__(code)
                self.code = code
        def fail(code):
            raise Problem(code)
        def chain():
            try:
                fail(1)
            except Problem as error:
                raise Problem(2) from error
        if __name__ == "__main__":
            with make_pool() as pool:
                error = pool.submit(fail, 3).exception()
                print(type(error) is Problem, error.code)
                text = str(error.__cause__)
                print("in fail" in text, "raise Problem(code)" in text)
                print(pool.submit(chain).exception().code)
    """,
    "enums_and_named_tuples": """
        from collections import namedtuple
        from enum import Enum, Flag, auto
        from typing import NamedTuple, TypeVar
        class Colour(Enum):
            RED = 1
            BLUE = 2
        class Mode(Flag):
            READ = auto()
            WRITE = auto()
        Pair = namedtuple("Pair", "a b")
        class Typed(NamedTuple):
            x: int
        T = TypeVar("T")
        def use(colour, mode, pair):
            return colour is Colour.RED, mode == Mode.READ | Mode.WRITE, Pair(*pair), Typed(1), T
        if __name__ == "__main__":
            with make_pool() as pool:
                back = pool.submit(use, Colour.RED, Mode.READ | Mode.WRITE, Pair(1, 2)).result()
                print(back, type(back[2]) is Pair, type(back[3]) is Typed, back[4] is T)
                print(pool.submit(Colour, 2).result() is Colour.BLUE)
    """,
}


def run(folder, source, *command):
    """The program's output, once it has ended well."""
    program = folder / "program.py"
    program.write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *command, os.fspath(program)],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_guarded_program_prints_what_it_prints_with_spawn(tmp_path, name):
    program = textwrap.dedent(PROGRAMS[name])
    expected = run(tmp_path, STANDARD + program)
    assert run(tmp_path, OURS + program) == expected
    adopted = run(tmp_path, STANDARD + program, "-m", "offloop", "run", "--no-report")
    assert adopted == expected


@pytest.mark.parametrize("start", [("script.py",), ("-m", "package.module")])
def test_main_module_is_imported_once_under_its_own_name(tmp_path, start):
    source = """
        import os, sys
        import offloop
        IMPORTED_BY = os.getpid()
        def look():
            main = sys.modules["__main__"]
            spec = main.__spec__
            return (__name__, spec and spec.name, main.__package__, os.path.basename(main.__file__),
                    IMPORTED_BY)
        if __name__ == "__main__":
            with offloop.ProcessPool(2) as pool:
                first, second = (pool.submit(look).result() for _ in range(2))
                print(first[:4], first == second, first[4] != os.getpid())
    """
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    for path in (tmp_path / "script.py", tmp_path / "package" / "module.py"):
        path.write_text(textwrap.dedent(source), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *start], capture_output=True, text=True, cwd=tmp_path, timeout=BOUND_S
    )
    expected = {
        "script.py": "('__mp_main__', None, None, 'script.py') True True\n",
        "-m": "('__mp_main__', 'package.module', 'package', 'module.py') True True\n",
    }
    assert (done.stdout, done.stderr) == (expected[start[0]], "")


BOUND_LATER = """
        import argparse
        import offloop

        CONFIG = {"level": 1, "names": []}
        SETTINGS = dict(debug=False)
        LIMIT, total = 1, 0
        database = None

        class Options:
            verbose = False
            names = []

        class Settings:
            def __init__(self):
                self.level = 1
        settings = Settings()

        def connect():
            global database
            database = ["connected"]

        def use():
            return (args.fast, late(2), Late.__name__, database, CONFIG, SETTINGS, LIMIT,
                    Options.verbose, Options.names, settings.level)

        def unbound():
            return never_bound

        def in_worker():
            CONFIG["level"] += 1
            return CONFIG["level"]

        if __name__ == "__main__":
            parser = argparse.ArgumentParser()
            parser.add_argument("--fast", action="store_true")
            args = parser.parse_args(["--fast"])
            def late(n):
                return n * args.fast
            class Late:
                pass
            connect()
            CONFIG["names"].append("guarded")
            SETTINGS["debug"] = True
            LIMIT = 9
            Options.verbose = True
            Options.names.append("guarded")
            settings.level = 5
            with offloop.ProcessPool(1) as pool:
                print(pool.submit(use).result())
                print([pool.submit(in_worker).result() for _ in range(3)])
                CONFIG["level"] = 10
                args.fast = False
                settings.level = 6
                print(pool.submit(in_worker).result())
                print(pool.submit(use).result())
                print(type(pool.submit(unbound).exception()).__name__)
                late_one = pool.submit(Late).result()
                print(type(late_one) is Late)
"""


def test_names_that_only_the_guarded_part_binds_come_with_the_call(tmp_path):
    done = run(tmp_path, textwrap.dedent(BOUND_LATER))
    assert done.splitlines() == [
        "(True, 2, 'Late', ['connected'], {'level': 1, 'names': ['guarded']}, {'debug': True}, 9, "
        "True, ['guarded'], 5)",
        "[2, 3, 4]",
        "5",
        "(False, 0, 'Late', ['connected'], {'level': 5, 'names': ['guarded']}, {'debug': True}, "
        "9, True, ['guarded'], 6)",
        "NameError",
        "True",
    ]


def test_import_that_fails_is_one_error_that_says_what_to_do(tmp_path):
    source = """
        import os
        import offloop
        PROGRAM = os.environ.setdefault("PROGRAM", str(os.getpid()))
        if PROGRAM != str(os.getpid()):
            raise OSError("the port is taken")
        if __name__ == "__main__":
            with offloop.ProcessPool(1) as pool:
                error = pool.submit(abs, -1).exception()
                print(type(error).__name__)
                print("the port is taken" in str(error), "__name__" in str(error))
    """
    assert run(tmp_path, textwrap.dedent(source)).splitlines() == ["BrokenProcessPool", "True True"]


def test_library_that_starts_threads_as_it_is_imported_warns_no_program(tmp_path):
    source = """
        import numpy
        import offloop
        def work(size): return float(numpy.ones((size, size)).dot(numpy.ones((size, size))).sum())
        if __name__ == "__main__":
            with offloop.ProcessPool(2) as pool:
                print(list(pool.map(work, [300, 300])))
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    command = [sys.executable, "-W", "always", os.fspath(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S)
    assert (done.returncode, done.stdout) == (0, f"{[300.0**3] * 2}\n"), done.stderr
    assert "multi-threaded" not in done.stderr


REPLACED = """
    import functools, sys, threading
    import offloop
    def trace(function):
        @functools.wraps(function)
        def inner(*arguments): return ("traced", function(*arguments))
        return inner
    class Real:
        def method(self): return "real"
    class Holder:
        def __init__(self, held): self.held, self.extra = held, []
    held = {"n": 1}
    holder = Holder(held)
    lock = threading.Lock()
    LIMIT = 1
    class Node: pass
    node = Node(); Node.root = node
    def locked(): return type(lock).__name__, Node.root is node
    def work(n): return n
    def use(): return Real().method(), work(1), LIMIT
    def write(n):
        held["n"] = n
        return holder.held["n"], holder.held is held, holder.extra
    if __name__ == "__main__":
        with offloop.ProcessPool(1) as pool:
            show = lambda: print(pool.submit(use).result())
            real, plain = Real.method, work
            show()
            Real.method = lambda self: "fake"
            show()
            Real.method = real
            setattr(sys.modules["__main__"], "work", trace(work))
            show()
            work = plain
            LIMIT = 2
            show()
            LIMIT = 1
            show()
            del work
            print(type(pool.submit(use).exception()).__name__)
            work = plain
            show()
            holder.extra.append(1)
            print(pool.submit(write, 9).result())
            own, lock = lock, 5
            print(pool.submit(locked).result())
            lock = own
            print(pool.submit(locked).result())
"""


def test_what_replaces_a_name_counts_and_so_does_its_return(tmp_path):
    done = run(tmp_path, textwrap.dedent(REPLACED))
    assert done.splitlines() == [
        "('real', 1, 1)",
        "('fake', 1, 1)",
        "('real', ('traced', 1), 1)",
        "('real', 1, 2)",
        "('real', 1, 1)",
        "NameError",
        "('real', 1, 1)",
        "(9, True, [1])",
        "('int', True)",
        "('lock', True)",
    ]


PROXIES = """
    import json
    from unittest import mock
    import offloop
    asked = []
    class Lazy:
        # Set up when it is asked what it is, as proxies of web frameworks are.
        @property
        def __class__(self):
            asked.append(1)
            raise RuntimeError("outside of its context")
        def __reduce__(self):
            raise RuntimeError("outside of its context")
    request, settings = Lazy(), Lazy()
    class Holder:
        lazy = Lazy()
    def work(n): return n
    def use(flag): return request if flag else (work(1), Holder.__name__, settings is None)
    def later(flag): return late if flag else json.loads("2")
    if __name__ == "__main__":
        late = Lazy()
        with offloop.ProcessPool(1) as pool:
            print(pool.submit(use, False).result(), pool.submit(later, False).result(), asked)
            error = pool.submit(later, True).exception()
            print(type(error).__name__, "outside of its context" in str(error))
            with mock.patch("__main__.work", dict(a=5).get):
                print(type(pool.submit(use, False).result()).__name__)
            print(pool.submit(use, False).result())
"""


def test_proxies_are_not_asked_what_they_are(tmp_path):
    done = run(tmp_path, textwrap.dedent(PROXIES))
    assert done.splitlines() == [
        "(1, 'Holder', False) 2 []",
        "GlobalNotSent True",
        "tuple",
        "(1, 'Holder', False)",
    ]
