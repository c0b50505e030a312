"""``offloop run``: any asyncio program with offloop underneath, and a report at its end."""

from offloop._run.session import Settings, run_code, run_module, run_script, run_stdin

__all__ = ["Settings", "run_code", "run_module", "run_script", "run_stdin"]
