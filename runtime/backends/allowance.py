"""What a bundle may take of a machine, whatever it claims: memory of a graph's tensors, time until its graphs are
loaded and proven."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from ..errors import LimitError
from ..limits import DEFAULT_LIMITS, Limits


class OverLimitError(LimitError):
    """A graph takes more than the limits allow. No other backend is asked for it: it would take as much there."""


class Allowance:
    """Of one bundle in use. memory_bytes: of one graph's tensors, and of those that a picture's steps leave to each
    other. load_s: seconds for loading and proving. Safe to use from many threads."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.memory_bytes = limits.memory_bytes
        self.load_s = limits.load_s
        self._spent_s = 0.0
        self._lock = threading.Lock()
        self._here = threading.local()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """The time inside counts. Raises OverLimitError where none is left."""
        if self.left_s() == 0:
            raise self.too_long()
        self._here.start = perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._spent_s += perf_counter() - self._here.start
            del self._here.start

    def left_s(self) -> float:
        """Seconds that are left for loading and proving, by now."""
        now = perf_counter()
        return max(self.load_s - self._spent_s - (now - getattr(self._here, "start", now)), 0.0)

    def too_long(self) -> OverLimitError:
        """The error for graphs that take longer."""
        return OverLimitError(
            f"the bundle's graphs take more than {self.load_s:g} s to load and prove (--max-load-time, Limits.load_s)"
        )

    def too_large(self, what: str = "a graph of the bundle") -> OverLimitError:
        """The error for a graph that asks for more memory."""
        return OverLimitError(
            f"{what} needs more than the limit of {self.memory_bytes >> 20} MiB (--max-memory, Limits.memory_bytes)"
        )


@contextmanager
def stopped_after(seconds: float, stop: Callable[[], None]) -> Iterator[threading.Event]:
    """Calls `stop`, from another thread, when what is inside takes longer; the event is set before. Nothing is called
    after the end."""
    late = threading.Event()

    def end() -> None:
        late.set()
        stop()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()
