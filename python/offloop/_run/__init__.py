"""``offloop run``: any asyncio program with offloop underneath, and a report at its end."""

from offloop._run.session import Settings, run_code, run_module, run_script, run_stdin
from offloop._run.tape import Wanted

__all__ = ["Settings", "Wanted", "run_code", "run_module", "run_script", "run_stdin"]
