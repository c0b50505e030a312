"""The rows of the table by name, in the order in which they are measured and shown."""

from bench.loop.rows import callbacks, echo, files, http, idle, ready, subprocesses, tasks

_ALL = (
    *callbacks.ROWS,
    *tasks.ROWS,
    *echo.ROWS,
    *subprocesses.ROWS,
    *http.ROWS,
    *ready.ROWS,
    *files.ROWS,
    *idle.ROWS,
)

ROWS = {row.name: row for row in _ALL}
