"""What the server under test uses: CPU and memory by its process id, or by its metrics page."""

from __future__ import annotations

import re
import time
import urllib.request
from dataclasses import dataclass
from itertools import pairwise

import psutil

__all__ = ["Sample", "ServerWatch"]

_TIMEOUT = 2.0
_CPU = re.compile(r"^process_cpu_seconds_total(?:\{[^}]*\})? ([0-9.eE+-]+)", re.MULTILINE)
_MEMORY = re.compile(r"^process_resident_memory_bytes(?:\{[^}]*\})? ([0-9.eE+-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sample:
    """``cpu`` in seconds so far, ``memory`` in bytes, ``at`` in seconds of the monotonic clock."""

    at: float
    cpu: float
    memory: float


class ServerWatch:
    """Samples of each server. One that can't be asked just has none."""

    def __init__(self, pids: list[int], metrics: list[str]) -> None:
        self._pids = pids
        self._metrics = metrics
        self.samples: dict[str, list[Sample]] = {}

    def look(self) -> None:
        """Take a sample of each."""
        for pid in self._pids:
            try:
                process = psutil.Process(pid)
                family = [process, *process.children(recursive=True)]
                times = [each.cpu_times() for each in family]
                cpu = sum(each.user + each.system for each in times)
                memory = sum(each.memory_info().rss for each in family)
            except psutil.Error:
                continue
            self.samples.setdefault(f"pid {pid}", []).append(Sample(time.monotonic(), cpu, memory))
        for url in self._metrics:
            try:
                with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
                    page = answer.read(4_000_000).decode(errors="replace")
            except (OSError, ValueError):
                continue
            used, memory_found = _CPU.search(page), _MEMORY.search(page)
            if used is not None and memory_found is not None:
                sample = Sample(time.monotonic(), float(used[1]), float(memory_found[1]))
                self.samples.setdefault(url, []).append(sample)

    def summary(self, origin: float) -> dict[str, dict[str, object]]:
        """Return per server the CPU share, the memory at start, end and most, and both by second from ``origin``."""
        found: dict[str, dict[str, object]] = {}
        for name, samples in self.samples.items():
            first, last = samples[0], samples[-1]
            wall = max(last.at - first.at, 1e-9)
            shares = {int(b.at - origin): (b.cpu - a.cpu) / max(b.at - a.at, 1e-9) for a, b in pairwise(samples)}
            found[name] = {
                "cpu_share": max(0.0, last.cpu - first.cpu) / wall,
                "cpu_seconds": max(0.0, last.cpu - first.cpu),
                "memory_first": first.memory,
                "memory_last": last.memory,
                "memory_most": max(each.memory for each in samples),
                "cpu_by_second": {str(at): round(max(0.0, share), 3) for at, share in shares.items()},
                "memory_by_second": {str(int(each.at - origin)): each.memory for each in samples},
            }
        return found
