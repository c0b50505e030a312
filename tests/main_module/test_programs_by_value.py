"""Programs without a guard: one namespace in the worker, and nothing comes back that redefines.

Each case is a script that every peer refuses, or runs by copying. The expected lines are what one
process would print that called the functions itself, but for what the worker keeps to itself.
"""

import textwrap

import pytest

from gates import run_program

CASES = {
    "a_result_is_of_the_class_that_is_here": (
        """
        seen = []
        class Point:
            made = 0
            def note(self): seen.append(self)
        def make(): return Point()
        f = pool.submit(make); Point.made = 10; f.result().note(); Point().note()
        print(Point.made, len(seen))
        """,
        ["10 2"],
    ),
    "a_class_that_registers_itself": (
        """
        class Base:
            registry = {}
            def __init_subclass__(cls, tag=None):
                assert cls.__name__ not in Base.registry
                Base.registry[cls.__name__] = cls
        class Sub(Base, tag="x"):
            def hello(self): return "hi"
        class Sub2(Sub, tag="y"):
            pass
        print(type(pool.submit(Sub).result()) is Sub, Base.registry["Sub"]().hello())
        print(sorted(pool.submit(lambda: list(Base.registry)).result()), len(Base.registry))
        print(pool.submit(lambda: Base.registry["Sub2"] is Sub2).result())
        """,
        ["True hi", "['Sub', 'Sub2'] 2", "True"],
    ),
    "an_exception_of_the_program_keeps_its_class": (
        """
        class Problem(Exception):
            count = 0
        def fail():
            Problem.count += 1
            raise Problem(Problem.count)
        try:
            pool.submit(fail).result()
        except Problem as error:
            print(error.args, Problem.count)
        print(pool.submit(fail).exception().args, Problem.count)
        """,
        ["(1,) 0", "(2,) 0"],
    ),
    "an_argument_does_not_reset_its_class": (
        """
        class Counter:
            made = 0
        def make(counter):
            Counter.made += 1
            return Counter.made, counter.made
        print([pool.submit(make, Counter()).result() for _ in range(3)], Counter.made)
        Counter.other = 5
        print(pool.submit(make, Counter()).result(), pool.submit(lambda: Counter.other).result())
        """,
        ["[(1, 1), (2, 2), (3, 3)] 0", "(4, 4) 5"],
    ),
    "local_classes": (
        """
        def build():
            class Local:
                made = 0
                def __init__(self): Local.made += 1
            return Local
        Local = build()
        Local.__qualname__ = "build.<locals>.Local"
        def give(value):
            type(value).made += 10
            return type(value), value
        cls, value = pool.submit(give, Local()).result()
        print(cls is Local, type(value) is Local, Local.made)
        cls, value = pool.submit(give, Local()).result()
        print(cls is Local, Local.made)
        """,
        ["True True 1", "True 2"],
    ),
    "classes_that_the_worker_makes_come_by_value": (
        """
        def make():
            class Made:
                def hello(self): return "made"
            return Made()
        def define():
            global Defined
            class Defined:
                def hello(self): return "defined"
            return Defined()
        print(pool.submit(make).result().hello(), pool.submit(define).result().hello())
        print("Defined" in globals())
        """,
        ["made defined", "False"],
    ),
    "functions_see_the_same_globals": (
        """
        state = {"n": 0}
        total = 0
        def add():
            global total
            total += 1
            state["n"] += 1
        def read(): return total, state["n"]
        for _ in range(3): pool.submit(add).result()
        print(pool.submit(read).result(), pool.submit(lambda: (total, state)).result())
        print(total, state)
        total = 10
        print(pool.submit(read).result())
        """,
        ["(3, 3) (3, {'n': 3})", "0 {'n': 0}", "(10, 3)"],
    ),
    "changes_are_seen": (
        """
        limit, names, table = 1, ["a"], {"k": [1]}
        class Config:
            debug, options = False, {}
        def use(): return limit, names, table, Config.debug, Config.options
        print(pool.submit(use).result())
        limit = 2; names.append("b"); table["k"].append(2); Config.debug = True
        Config.options["x"] = 1
        print(pool.submit(use).result())
        del limit
        print(type(pool.submit(use).exception()).__name__)
        limit = 3
        def helper(): return "new"
        def call(): return helper()
        print(pool.submit(call).result(), pool.submit(use).result()[0])
        def helper(): return "newer"
        print(pool.submit(call).result())
        """,
        [
            "(1, ['a'], {'k': [1]}, False, {})",
            "(2, ['a', 'b'], {'k': [1, 2]}, True, {'x': 1})",
            "NameError",
            "new 3",
            "newer",
        ],
    ),
    "a_method_that_is_replaced": (
        """
        class Greeter:
            def greet(self): return "old"
        def use(): return Greeter().greet()
        print(pool.submit(use).result(), pool.submit(Greeter().greet).result())
        Greeter.greet = lambda self: "new"
        print(pool.submit(use).result(), pool.submit(Greeter().greet).result())
        """,
        ["old old", "new new"],
    ),
    "what_cannot_be_pickled_is_named_where_it_is_used": (
        """
        import threading
        lock, unused = threading.Lock(), threading.Lock()
        def safe(flag):
            if flag:
                with lock: return 1
            return 0
        print(pool.submit(safe, False).result())
        error = pool.submit(safe, True).exception()
        print(type(error).__name__, "'lock'" in str(error), "'safe'" in str(error))
        print(isinstance(error, (NameError, offloop.OffloopError)))
        def called(): return lock()
        def indexed(): return lock[0]
        def attribute(): return lock.acquire()
        for use in (called, indexed, attribute):
            print(type(pool.submit(use).exception()).__name__)
        """,
        ["0", "GlobalNotSent True True", "True", "GlobalNotSent", "GlobalNotSent", "GlobalNotSent"],
    ),
    "what_cannot_be_sent_at_all_fails_the_submission": (
        """
        import threading
        class Holder:
            def __init__(self): self.n = 1
            lock = threading.Lock()
        class Plain:
            pass
        lock = threading.Lock()
        items = [Holder()]
        def takes(value): return value
        def default(value=lock): return 1
        for submit in (
            lambda: pool.submit(takes, Holder()),
            lambda: pool.submit(default),
            lambda: pool.submit(takes, [Plain(), Holder]),
            lambda: pool.submit(lambda: items),
        ):
            error = submit().exception()
            print(type(error).__name__, "lock" in str(error))
        print(type(pool.submit(takes, Plain()).result()) is Plain)
        """,
        [
            "PicklingError True",
            "PicklingError True",
            "PicklingError True",
            "GlobalNotSent True",
            "True",
        ],
    ),
    "globals_keep_their_identity": (
        """
        from collections import ChainMap
        MISSING, cache, base = object(), {}, {"a": 1}
        chained = ChainMap({}, base)
        def get(key, default=MISSING): return default is MISSING
        def remember(key, into=cache):
            into[key] = key
            return len(cache)
        class Counter:
            def __init__(self): self.n = 0
            def count(self):
                self.n += 1
                return self.n
        counter = Counter()
        count = counter.count
        class Node: pass
        root = Node(); Node.root = root
        items = []; items.append(items)
        def chain():
            base["b"] = 2
            return chained["b"]
        print(pool.submit(get, 1).result(), pool.submit(lambda d=MISSING: d is MISSING).result())
        print([pool.submit(remember, n).result() for n in range(2)], cache)
        print(pool.submit(lambda: (count(), count(), counter.n)).result(), counter.n)
        print(pool.submit(chain).result(), pool.submit(lambda: Node.root is root).result())
        print(pool.submit(lambda: items[0] is items).result())
        """,
        ["True True", "[1, 2] {}", "(1, 2, 2) 0", "2 True", "True"],
    ),
    "code_that_runs_while_unpickling_finds_its_globals": (
        """
        import threading, zlib
        class Locked:
            def __init__(self): self.n, self.lock = 1, threading.Lock()
            def __getstate__(self): return self.n
            def __setstate__(self, n): self.n, self.lock = helper(n), threading.Lock()
        class Key:
            def __hash__(self): return zlib.crc32(b"")
            def __eq__(self, other): return True
        def helper(n): return n + table["zero"] + zlib.crc32(b"")
        class Meta(type):
            def __new__(meta, name, bases, space):
                made.append(name)
                return super().__new__(meta, name, bases, space)
        made, table = [], {"zero": 0}
        class Made(metaclass=Meta): pass
        locked, keyed = Locked(), {Key(): 1}
        def use():
            with locked.lock: return locked.n, keyed[Key()], Made.__name__
        print(pool.submit(use).result())
        """,
        ["(1, 1, 'Made')"],
    ),
    "what_cannot_be_unpickled_is_named_where_it_is_used": (
        """
        class Proxy:
            def __init__(self, target): self._target = target
            def __getattr__(self, name): return getattr(self._target, name)
        proxy = Proxy([1])
        def use(flag): return proxy.count(1) if flag else 0
        print(pool.submit(use, False).result())
        error = pool.submit(use, True).exception()
        print(type(error).__name__, "'proxy'" in str(error), "RecursionError" in str(error))
        class Holder:
            held, other = 1, 2
        def held(flag): return Holder.held + 1 if flag else Holder.other
        print(pool.submit(held, True).result())
        Holder.held = Proxy([1])
        print(pool.submit(held, False).result())
        error = pool.submit(held, True).exception()
        print(type(error).__name__, "'Holder.held'" in str(error))
        """,
        ["0", "GlobalNotSent True True", "2", "2", "GlobalNotSent True"],
    ),
    "slots_new_types_and_members_with_attributes": (
        """
        from dataclasses import dataclass
        from enum import Enum
        from typing import NewType
        class Point:
            __slots__ = ("x", "__y")
            def __init__(self): self.x, self.__y = 1, 2
            def both(self): return self.x, self.__y
        class Sub(Point):
            __slots__ = ("z",)
        @dataclass(slots=True, weakref_slot=True)
        class Data:
            a: int
        @dataclass(slots=True, frozen=True)
        class Frozen:
            a: int
        class Planet(Enum):
            EARTH, MARS = (1.5, 2), (3.5, 4)
            def __init__(self, mass, radius): self.mass, self.radius = mass, radius
            @property
            def pull(self): return self.mass / self.radius
        UserId = NewType("UserId", int)
        def use(point):
            sub = Sub(); sub.z = 3
            here = hasattr(Point(), "__dict__"), Planet.EARTH.pull, Planet.MARS.mass, UserId(3)
            return point, sub, Data(1), Frozen(2), here
        point, sub, data, frozen, here = pool.submit(use, Point()).result()
        print(point.both(), sub.both(), sub.z, data, frozen, here)
        print(type(point) is Point, type(data) is Data, type(frozen) is Frozen)
        """,
        [
            "(1, 2) (1, 2) 3 Data(a=1) Frozen(a=2) (False, 0.75, 3.5, 3)",
            "True True True",
        ],
    ),
    "threads_change_globals_while_others_submit": (
        """
        import threading
        class Slow:
            def __reduce__(self): return Slow, ()
        table, stop = {n: Slow() for n in range(20)}, threading.Event()
        def change():
            n = 20
            while not stop.is_set():
                table[n] = Slow()
                table.pop(n - 3, None)
                n += 1
        def use(): return len(table) > 10
        changing = threading.Thread(target=change)
        changing.start()
        try:
            ends = {type(pool.submit(use).exception()).__name__ for _ in range(200)}
        finally:
            stop.set()
            changing.join()
        print(ends <= {"NoneType", "GlobalNotSent"}, "NoneType" in ends)
        """,
        ["True True"],
    ),
    "caches": (
        """
        from functools import lru_cache, wraps
        runs = []
        @lru_cache(maxsize=2)
        def cached(n):
            runs.append(n)
            return n * n
        def twice(n): return cached(n), cached(n), len(runs)
        def decorate(function):
            @wraps(function)
            def inner(*arguments): return ["decorated", function(*arguments)]
            return inner
        @decorate
        def plain(n): return n + 1
        print(pool.submit(twice, 3).result(), pool.submit(cached, 5).result(), len(runs))
        print(pool.submit(plain, 1).result(), list(pool.map(plain, [2])))
        """,
        ["(9, 9, 1) 25 0", "['decorated', 2] [['decorated', 3]]"],
    ),
    "recursion_defaults_and_closures": (
        """
        def fact(n): return 1 if n < 2 else n * fact(n - 1)
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        def counter():
            count = 0
            def step():
                nonlocal count
                count += 1
                return count
            return step
        step = counter()
        def collects(value, into=[]):
            into.append(value)
            return into
        print(pool.submit(fact, 5).result(), pool.submit(even, 10).result())
        print(pool.submit(step).result(), step(), pool.submit(step).result(), step())
        print(pool.submit(collects, 1).result(), pool.submit(collects, 2).result(), collects(0))
        """,
        ["120 True", "1 1 2 2", "[1] [1, 2] [0]"],
    ),
    "submodules_are_imported": (
        """
        import xml
        import xml.dom.minidom
        def use(): return xml.dom.minidom.parseString("<a/>").documentElement.tagName
        print(pool.submit(use).result())
        """,
        ["a"],
    ),
    "an_initializer_keeps_what_it_changes": (
        """
        model, table, names, counted = None, {}, [], 0
        class Model:
            loaded, parts = False, {}
        def load(name):
            global model, counted
            model, table["m"] = [name], name
            names.append(name); counted += 1
            Model.loaded = True; Model.parts["name"] = name
        def use(): return model, table, names, Model.loaded, Model.parts, counted
        def given(value): return value.loaded, Model.parts
        with offloop.ProcessPool(1, initializer=load, initargs=("m",)) as loaded:
            print(loaded.submit(use).result())
            print(loaded.submit(given, Model()).result())
            names.append("of the program"); Model.other = 1
            print(loaded.submit(use).result())
            print(loaded.submit(lambda: (model, Model.other)).result())
        print(model, table, names, Model.loaded)
        """,
        [
            "(['m'], {'m': 'm'}, ['m'], True, {'name': 'm'}, 1)",
            "(True, {'name': 'm'})",
            "(['m'], {'m': 'm'}, ['m'], True, {'name': 'm'}, 1)",
            "(['m'], 1)",
            "None {} ['of the program'] False",
        ],
    ),
    "enums_dataclasses_and_generics": (
        """
        from dataclasses import dataclass, field
        from enum import Enum
        from typing import Generic, NamedTuple, TypeVar
        T = TypeVar("T")
        class Colour(Enum):
            RED, BLUE = 1, 2
        @dataclass
        class Box(Generic[T]):
            value: T
            colour: Colour = Colour.RED
            others: list["Box"] = field(default_factory=list)
        class Pair(NamedTuple):
            a: int
            b: Box
        def use(pair):
            pair.b.others.append(Box(2, Colour.BLUE))
            return pair, pair.b.colour is Colour.RED, Colour(2), T
        back, same, blue, t = pool.submit(use, Pair(1, Box(1))).result()
        print(back, same, blue is Colour.BLUE, type(back) is Pair, t is T)
        print(type(back.b.others[0]) is Box, back.b.others[0].colour is Colour.BLUE)
        """,
        [
            "Pair(a=1, b=Box(value=1, colour=<Colour.RED: 1>, others=[Box(value=2, "
            "colour=<Colour.BLUE: 2>, others=[])])) True True True True",
            "True True",
        ],
    ),
    "pickle_works_inside_the_worker": (
        """
        import pickle, sys, typing
        class Point:
            x: int = 1
        def through(): return type(pickle.loads(pickle.dumps(Point()))) is Point
        def hints(): return typing.get_type_hints(Point)
        def by_name(name): return globals()[name] is Point, sys.modules["__main__"].Point is Point
        print(pool.submit(through).result(), pool.submit(hints).result())
        print(pool.submit(by_name, "Point").result())
        """,
        ["True {'x': <class 'int'>}", "(True, True)"],
    ),
    "a_class_arrives_without_annotations_that_cannot_be_evaluated": (
        """
        import sys, typing
        class Point:
            if sys.version_info >= (3, 14):
                x: typing.Nothing = 1
                y: Unknown = 2
            z = 3
        print(pool.submit(lambda: Point().z).result())
        """,
        ["3"],
    ),
    "a_traceback_names_file_and_line": (
        """
        def fail(): raise ValueError("in a function")
        make = lambda: (lambda: 1 / 0)
        class Failing:
            def method(self): raise KeyError("in a method")
        for call in (fail, make(), Failing().method):
            text = str(pool.submit(call).exception().__cause__)
            lines = [line.strip() for line in text.splitlines()]
            place = next(n for n, line in enumerate(lines) if "program.py" in line)
            print(lines[place].partition(", ")[2], "|", lines[place + 1])
        """,
        [
            'line 5, in fail | def fail(): raise ValueError("in a function")',
            "line 6, in <lambda> | make = lambda: (lambda: 1 / 0)",
            'line 8, in method | def method(self): raise KeyError("in a method")',
        ],
    ),
}

HEAD = """
import offloop
pool = offloop.ProcessPool(1)
"""


@pytest.mark.parametrize("name", CASES)
def test_unguarded_program(tmp_path, name):
    source, expected = CASES[name]
    done = run_program(tmp_path, HEAD + textwrap.dedent(source) + "\npool.shutdown()\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected
    assert done.stderr == ""
