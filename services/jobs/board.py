"""The queue of jobs, and the threads that their work is done in.

Bounded on every side: so many run, so many wait (each knows its place), so many that have ended are remembered. A
cancel reaches a waiting job at once and a running one at its thread's next look; its place is free only when its thread
has ended, so that a thread that is slow to stop is not overtaken by more work than there are cores for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from services.jobs.job import Job, Stopped
from services.web.errors import ApiError, Overloaded

__all__ = ["Board", "Work"]

Work = Callable[[Job], Awaitable[Mapping[str, Any]]]
"""Does a job and returns its result."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Board:
    """``workers`` jobs at once, ``queue_limit`` waiting, ``keep`` ended ones remembered."""

    def __init__(self, name: str, workers: int, queue_limit: int, keep: int) -> None:
        self._workers = workers
        self._queue_limit = queue_limit
        self._keep = keep
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: deque[tuple[Job, Work]] = deque()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._closed = False

    def health(self) -> dict[str, int]:
        """What the health page shows."""
        return {"running": len(self._running), "queued": len(self._waiting), "workers": self._workers}

    def room(self, jobs: int = 1) -> None:
        """Raise ``Overloaded`` unless so many jobs more can be taken."""
        free = self._workers - len(self._running) + self._queue_limit - len(self._waiting)
        if jobs > free or self._closed:
            raise Overloaded("The queue is full. Try again in a moment.")

    def submit(self, job: Job, work: Work) -> Job:
        """Queue a job. Raises ``Overloaded``."""
        self.room()
        self._jobs[job.id] = job
        self._forget_old()
        self._waiting.append((job, work))
        self._advance()
        return job

    def get(self, job_id: str) -> Job | None:
        """A job that waits, runs, or ended not long ago."""
        return self._jobs.get(job_id)

    def cancel(self, job: Job) -> None:
        """Stop a job; nothing happens to one that has ended."""
        job.stop.set()
        task = self._running.get(job.id)
        if task is not None:
            task.cancel()
            return
        self._waiting = deque(entry for entry in self._waiting if entry[0] is not job)
        job.end("cancelled")
        self._tell_places()

    def forget(self, job: Job) -> None:
        """Remember an ended job no longer."""
        self._jobs.pop(job.id, None)

    async def in_thread(self, job: Job, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call ``function`` in a worker thread. When this is cancelled, it returns only after the thread has ended."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            job.stop.set()
            while not future.done():
                with contextlib.suppress(
                    asyncio.CancelledError
                ):  # A second cancel must not overtake the thread, either.
                    await asyncio.wait([future])
            future.exception()  # Looked at, or the loop would complain that nobody did.
            raise

    async def close(self) -> None:
        """Cancel all that waits and runs, and wait for the threads."""
        self._closed = True
        for job in [entry[0] for entry in self._waiting] + [self._jobs[job_id] for job_id in self._running]:
            self.cancel(job)
        if self._running:
            await asyncio.wait(list(self._running.values()))
        self._threads.shutdown(wait=False)

    def _advance(self) -> None:
        while self._waiting and len(self._running) < self._workers:
            job, work = self._waiting.popleft()
            task = asyncio.get_running_loop().create_task(self._run(job, work), name=f"job {job.id}")
            self._running[job.id] = task
        self._tell_places()

    async def _run(self, job: Job, work: Work) -> None:
        try:
            job.status = "running"
            job.end("completed", await work(job))
        except (asyncio.CancelledError, Stopped):
            job.end("cancelled")
        except ApiError as error:
            job.error_status = error.http_status
            job.end("failed", error=error.message)
        except Exception:
            _log.exception("job %s failed", job.id)
            job.end("failed", error="The service failed. Try again.")
        finally:
            del self._running[job.id]
            if not self._closed:
                self._advance()

    def _tell_places(self) -> None:
        """Say to each waiting job how many are ahead of it."""
        for place, (job, _) in enumerate(self._waiting):
            before = job.latest("queued")
            if before is None or before["position"] != place + 1:
                job.publish("queued", position=place + 1)

    def _forget_old(self) -> None:
        excess = len(self._jobs) - self._keep - self._workers - self._queue_limit
        for job in [job for job in self._jobs.values() if job.ended][: max(excess, 0)]:
            del self._jobs[job.id]
