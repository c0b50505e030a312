"""Tests of a shop. One fails under the gate: python -m pytest --offloop-max-stall=50ms"""

import asyncio
import unittest

from shop import may_enter, may_enter_meanwhile


class TestShop(unittest.IsolatedAsyncioTestCase):
    """Both pass without the gate."""

    async def test_customer_enters(self) -> None:
        self.assertTrue(await may_enter("ada", "correct horse"))

    async def test_customer_enters_while_the_shop_goes_on(self) -> None:
        door = asyncio.create_task(may_enter_meanwhile("ada", "correct horse"))
        while not door.done():
            await asyncio.sleep(0.01)
        self.assertTrue(door.result())
