"""One class for each way to reach a pool, in the way its own users would write it."""
