"""The gate: what a test has done to its event loop and has left behind, as findings.

A test framework's plugin tells when each phase of a test begins and ends (`_offloop_pytest` does
that for pytest). Nothing here knows a framework.
"""

from offloop._gate.findings import Finding, Kind
from offloop._gate.gate import Gate
from offloop._gate.ratchet import read_ratchet
from offloop._gate.record import Record
from offloop._gate.verdict import Verdict

__all__ = ["Finding", "Gate", "Kind", "Record", "Verdict", "read_ratchet"]
