"""Asks things that may never answer: each has its time, and none is asked again while it hangs."""

from __future__ import annotations

import contextvars
import math
import queue
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from virt_preflight.agent.sources import SourceError, Unreadable
from virt_preflight.agent.sources.observer import UNOBSERVED, GivenUp, SourceObserver

T = TypeVar("T")

# So many questions may hang at once; each holds a thread that nobody can end.
HANGING_AT_MOST = 32


@dataclass(slots=True, eq=False)
class _Job:
    whom: Hashable
    question: Callable[[], Any]
    asked_at_s: float
    # So that what is logged meanwhile is known to be about the asker's question.
    about: contextvars.Context = field(default_factory=contextvars.copy_context)
    done: threading.Event = field(default_factory=threading.Event)
    answer: Any = None
    error: BaseException | None = None


class Patience:
    """Threads that can be given up: daemons, so that a hanging one does not hold the process."""

    def __init__(self, clock: Callable[[], float], observer: SourceObserver = UNOBSERVED) -> None:
        self._clock = clock
        self._observer = observer
        self._idle: queue.SimpleQueue[queue.SimpleQueue[_Job]] = queue.SimpleQueue()
        self._hanging: dict[Hashable, _Job] = {}
        self._guard = threading.Lock()
        self._own = threading.local()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """What the calling thread asks inside it takes no longer than that in all.

        Inside another it has no more than is left of that.
        """
        before_s = getattr(self._own, "until_s", math.inf)
        self._own.until_s = min(before_s, self._clock() + seconds)
        try:
            yield
        finally:
            self._own.until_s = before_s

    def left_s(self) -> float:
        """What the calling thread has left of its time; without a bound, for ever."""
        return max(0.0, getattr(self._own, "until_s", math.inf) - self._clock())

    def ask(self, whom: Hashable, within_s: float, question: Callable[[], T]) -> T:
        """The answer, or Unreadable when there is none within that time.

        While somebody has not answered an earlier question, he is not asked another: the answer
        to that is Unreadable at once, so that a dead mount costs one deadline and one thread.
        """
        job = _Job(whom, question, self._clock())
        left_s = getattr(self._own, "until_s", math.inf) - job.asked_at_s
        if left_s <= 0:
            self._observer.given_up(whom, GivenUp.NO_TIME)
            raise Unreadable(f"no time left to ask {whom}")
        with self._guard:
            earlier = self._hanging.get(whom)
            if earlier is not None:
                self._observer.given_up(whom, GivenUp.HANGS)
                waited_s = job.asked_at_s - earlier.asked_at_s
                raise Unreadable(f"{whom} has not answered for {waited_s:.0f} s")
            if len(self._hanging) >= HANGING_AT_MOST:
                self._observer.given_up(whom, GivenUp.TOO_MANY)
                raise Unreadable(f"{HANGING_AT_MOST} other questions hang, {whom} was not asked")
        self._worker().put(job)
        if not job.done.wait(min(within_s, left_s)):
            with self._guard:
                if not job.done.is_set():
                    self._hanging[whom] = job
                    self._observer.given_up(whom, GivenUp.NO_ANSWER)
                    raise Unreadable(f"no answer from {whom} within {min(within_s, left_s):.3g} s")
        if isinstance(job.error, SourceError):
            raise job.error
        if job.error is not None:
            raise Unreadable(str(job.error)) from job.error
        return job.answer  # type: ignore[no-any-return]

    def _worker(self) -> queue.SimpleQueue[_Job]:
        """An idle worker's inbox, or a new worker's."""
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            inbox: queue.SimpleQueue[_Job] = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(inbox,), daemon=True).start()
            return inbox

    def _work(self, inbox: queue.SimpleQueue[_Job]) -> None:
        while True:
            job = inbox.get()
            try:
                job.answer = job.about.run(job.question)
            except BaseException as error:  # noqa: BLE001 - it is the asker's to deal with
                job.error = error
            with self._guard:
                job.done.set()
                if self._hanging.get(job.whom) is job:
                    del self._hanging[job.whom]
                    self._observer.came_back(job.whom)
            self._idle.put(inbox)
            del job
