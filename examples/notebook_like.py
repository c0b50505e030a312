"""As in a notebook: no main guard, and functions written where they are used.

    python examples/notebook_like.py

Lambdas, closures and dataclasses of ``__main__`` travel by value, with the globals that they use as
they are at the time of the call, and NumPy arrays arrive writable.
"""

from dataclasses import dataclass

import numpy as np

import offloop

pool = offloop.ProcessPool(2)

# A lambda.
print("squares:", list(pool.map(lambda number: number * number, range(8))))


# A closure.
def scaler(factor):
    def scale(values):
        values *= factor
        return values

    return scale


print("scaled:", pool.submit(scaler(3), np.arange(4)).result().tolist())


# A dataclass, defined in this cell and understood in the worker.
@dataclass
class Sample:
    name: str
    values: np.ndarray

    def spread(self):
        return float(self.values.max() - self.values.min())


samples = [Sample(f"sample {n}", np.linspace(0, n, 1000)) for n in range(3)]
print("spreads:", list(pool.map(Sample.spread, samples)))

# A global that changes between two calls.
threshold = 10


def above(values):
    return int((values > threshold).sum())


first = pool.submit(above, np.arange(100)).result()
threshold = 50
second = pool.submit(above, np.arange(100)).result()
print("above 10:", first, "above 50:", second)

# A large array, there and back.
large = np.random.default_rng(1).normal(size=2_000_000)
ordered = pool.submit(np.sort, large).result()
print("sorted:", bool((np.diff(ordered) >= 0).all()), ordered.shape)

pool.shutdown()
