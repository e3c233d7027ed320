"""A layout that runs: batch after batch, by captured graphs where the device can replay them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .. import fileinfo
from ..choose import Values
from ..errors import NicrtError
from .graphs import CAPTURING
from .layout import Layout, Step

if TYPE_CHECKING:
    from nicrt._device_host import Buffer, Graph

WARM_UP_RUNS = 2
"""Before a capture: ONNX Runtime takes its memory in the first run, and lays it out anew in the second."""

REPLAYS = 2
"""That have to be right before one is believed: what a replay spoils for the next shows in the second."""

File = tuple[fileinfo.Buffer, Sequence[_core.Stream]]


class Replay:
    """Runs a layout's steps. Not for two threads at once.

    parameters: those of the layout's plan. capture: note the steps once and replay them; a replay that does not
    give the pixels of plain launches is thrown away, and `captured` says so.
    """

    def __init__(self, layout: Layout, parameters: Values, *, capture: bool) -> None:
        self.layout = layout
        self.captured = "not yet" if capture else "no: not asked for"
        self._capture = capture
        self._calls: list[Callable[[], None]] = [step.run for step in layout.steps]
        self._graphs: list[Graph] = []
        self._parameters = parameters

    def set_parameters(self, parameters: Values, plan: _core.Plan) -> None:
        """Values, and the plan with them. Raises as `Layout.set_parameters` does."""
        if parameters != self._parameters:
            self.layout.set_parameters(plan)
            self._parameters = parameters

    def load(self, files: Sequence[File]) -> None:
        """Bring a batch to the device. Raises as StreamDecoder.set does."""
        for number, stream in enumerate(self.layout.streams):
            stream.decoder.set([(data, streams[number]) for data, streams in files])

    def run(self) -> Buffer:
        """Queue the decoding of the loaded batch. → the pictures, padded: uint8 [n, height, width, 3]."""
        for call in self._calls:
            call()
        return self.layout.shown

    def finish(self) -> None:
        """Wait for the run; raises CorruptError where a stream was damaged."""
        self.layout.queue.synchronize()
        for stream in self.layout.streams:
            stream.decoder.check()
        if self._capture:
            self._capture = False
            self._replace_by_graphs()

    def step_by_step(self, look: Callable[[Step], None]) -> None:
        """Queue plain launches of the loaded batch, and `look` behind each step."""
        for step in self.layout.steps:
            step.run()
            look(step)

    def _replace_by_graphs(self) -> None:
        """Capture what was just run, all of it or else the entropy steps, if the replay gives the same picture."""
        for _ in range(WARM_UP_RUNS - 1):
            self.run()
        expected = self.layout.shown.download()
        plain, reason = self._calls, "nothing can be captured"
        for what, steps in (("all", _capturable), ("entropy", _is_entropy)):
            try:
                calls, graphs = self._captured(steps)
                self._forget(~expected)
                self._calls = calls
                if graphs and all(np.array_equal(self.run().download(), expected) for _ in range(REPLAYS)):
                    self.captured, self._graphs = f"{what}: {len(graphs)} graphs", graphs
                    return
                reason = "the replay gave another picture" if graphs else reason
            except NicrtError as error:
                reason = str(error)
            self._calls = plain
        self.captured = f"no: {reason}"
        self.run()  # brings back what was overwritten
        self.layout.queue.synchronize()

    def _forget(self, other: npt.NDArray[np.uint8]) -> None:
        """Overwrite what the steps have made, the picture with another one: what a replay leaves out shows then."""
        for buffer in self.layout.memory.reused:
            buffer.upload(np.zeros(buffer.shape, buffer.dtype))
        self.layout.shown.upload(other)

    def _captured(self, belongs: Callable[[Step], bool]) -> tuple[list[Callable[[], None]], list[Graph]]:
        """The steps' calls, with the captured graph in place of each row of steps that belong together."""
        calls: list[Callable[[], None]] = []
        graphs: list[Graph] = []
        row: list[Step] = []
        for step in [*self.layout.steps, None]:
            if step is not None and belongs(step):
                row.append(step)
                continue
            if row:
                graphs.append(self._graph_of(row))
                calls.append(graphs[-1].replay)
                row = []
            if step is not None:
                calls.append(step.run)
        return calls, graphs

    def _graph_of(self, steps: Sequence[Step]) -> Graph:
        queue = self.layout.queue
        with CAPTURING:
            queue.begin_capture()
            try:
                for step in steps:
                    step.run()
            except NicrtError:
                with suppress(NicrtError):
                    queue.end_capture()  # a capture that failed must end before the queue can be used again
                raise
            return queue.end_capture()


def _capturable(step: Step) -> bool:
    return step.capturable


def _is_entropy(step: Step) -> bool:
    return step.stream is not None
