"""What Linux tells of processes and cores."""

from __future__ import annotations

import os
import platform
import re
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "LOAD_CORE",
    "SERVER_CORE",
    "Memory",
    "core_seconds",
    "cpu_seconds",
    "describe",
    "memory",
    "pin",
    "raise_file_limit",
]

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024
_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = _CORES[0]
LOAD_CORE = _CORES[1] if len(_CORES) > 1 else None
"""None: there is one core only, and nothing is pinned."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process. ``rss`` counts what it shares with others, ``uss`` only what is its own."""

    rss: int
    uss: int


def pin(pid: int, core: int | None) -> None:
    """Keep a process (0: this one) on one core, if there are two."""
    if core is not None and LOAD_CORE is not None:
        os.sched_setaffinity(pid, {core})


def raise_file_limit() -> None:
    """Let this process and those that it starts have as many sockets as the system allows them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that the processes have used so far, user and system."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def core_seconds(core: int) -> float:
    """Return for how long a core has been at work for processes so far, whichever they are."""
    match = re.search(rf"^cpu{core} (.*)$", Path("/proc/stat").read_text(), re.MULTILINE)
    if match is None:
        return 0.0
    user, nice, system, *_ = map(int, match[1].split())
    return (user + nice + system) / _TICKS


def memory(pid: int) -> Memory:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {name: int(size) * _KIB for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
    return Memory(sizes["Rss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def describe() -> str:
    """Return one line about this machine."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    name = model[1].strip() if model is not None else platform.machine()
    return (
        f"{name}, {len(_CORES)} cores, Linux {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )
