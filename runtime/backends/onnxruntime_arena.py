"""Memory of ONNX Runtime's sessions: an arena for each, with an end.

The library has one place for an allocator that sessions share. A session takes what is there when it is made, and keeps
it; so each gets an arena of its own by putting it there just before. That works with 1.32; where a library keeps the
first one that was put there, later sessions have their own arenas without an end, as they have by default.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_SHARED = "session.use_env_allocators"
FULL = "Available memory of"
"""What ONNX Runtime's message has in it when an arena may not grow as far as it would have to."""

_making = threading.Lock()


@contextmanager
def own_arena(library: ModuleType, options: Any, most_bytes: int) -> Iterator[None]:
    """Sessions made inside, with these options, have an arena of at most so many bytes. One thread at a time."""
    with _making:
        if _put(library, most_bytes) and not _is_set(options):
            options.add_session_config_entry(_SHARED, "1")
        try:
            yield
        finally:
            _put(library, 0)  # without an end, as by default: no session has used it, so nothing stays behind


def _put(library: ModuleType, most_bytes: int) -> bool:
    try:
        memory = library.OrtMemoryInfo(
            "Cpu", library.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, library.OrtMemType.DEFAULT
        )
        library.create_and_register_allocator(memory, library.OrtArenaCfg({"max_mem": most_bytes}))
    except Exception:  # of the library's own types, or for want of one of these names in an old one
        return False
    return True


def _is_set(options: Any) -> bool:
    """ONNX Runtime warns on standard error when an entry is made twice, and has an error for one that was not made."""
    try:
        return bool(options.get_session_config_entry(_SHARED))
    except Exception:
        return False


class Turns:
    """Runs in one arena. Each may take all of it, but many at once may not: one that fails beside others is run again
    alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._alone = 0  # those that want to be, or are
        self._starts = 0
        self._last_beside_others = 0  # number of the start at which there was last more than one

    def run(self, call: Callable[[], _Result], is_full: Callable[[Exception], bool]) -> _Result:
        """What `call` gives. Raises what it raises."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            number = self._start()
        try:
            return call()
        except Exception as error:
            if not is_full(error) or self._last_beside_others < number:
                raise
        finally:
            self._end()
        with self._changed:
            self._alone += 1
            self._changed.wait_for(lambda: not self._running)
            self._start()
        try:
            return call()
        finally:
            with self._changed:
                self._alone -= 1
            self._end()

    def _start(self) -> int:
        self._starts += 1
        self._running += 1
        if self._running > 1:
            self._last_beside_others = self._starts
        return self._starts

    def _end(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()
