"""The state of one encode or decode of a program: its tensors so far, and where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from nicrt import _core

from .fileinfo import Buffer
from .manifest import Entropy
from .memo import Memo
from .pictures import resample
from .plan import Parameters, Round
from .validate import PICTURE
from .windows import Placed, Rect

Picture = npt.NDArray[np.float32]
Watch = Callable[[Entropy, npt.NDArray[np.int32]], None]  # sees the symbols of every stream, zeros where not coded
Trace = Callable[[str, float], None]  # told the name of every decoding step and its seconds


@dataclass(frozen=True)
class Coded:
    """Symbols of a stream, int32 [channels, height, width], 0 where they are not coded, and what codes them: a
    codebook with its tables' numbers by place or by channel, of the tables of `step`."""

    step: Entropy
    codebook: _core.Codebook
    index: npt.NDArray[np.uint8]
    symbols: npt.NDArray[np.int32]


@dataclass
class Job:
    """State of one encode (`picture` is there) or decode (`data` or `given` is). versions: of the tensors, where a
    memo keeps what steps give."""

    parameters: Parameters
    tile: int
    tensors: dict[str, Placed] = field(default_factory=dict)
    picture: Picture | None = None
    effort: int = 0
    symbols_per_lane: int = 0
    given: list[npt.NDArray[np.int32]] | None = None
    data: Buffer = b""
    watch: Watch | None = None
    trace: Trace | None = None
    resampled: dict[tuple[int, int], Picture] = field(default_factory=dict)
    memo: Memo | None = None
    versions: dict[str, int] = field(default_factory=dict)

    @property
    def encoding(self) -> bool:
        return self.picture is not None

    def pixels(self, item: Round, rect: Rect) -> Picture:
        """The picture at the round's size, padded, of `rect`."""
        assert self.picture is not None
        if item.size not in self.resampled:
            self.resampled = {item.size: resample(self.picture, item.size)}  # only the last: rounds grow
        return _padded(self.resampled[item.size], rect)

    def finish(self, step: Entropy, symbols: npt.NDArray[np.int32], rect: Rect) -> None:
        exact = symbols.shape[1] * step.stride == rect.bottom - rect.top
        exact &= symbols.shape[2] * step.stride == rect.right - rect.left
        self.tensors[step.out] = Placed(symbols[None], rect, step.stride) if exact else Placed(symbols[None])
        if self.watch is not None:
            self.watch(step, symbols)

    def strides(self, inputs: Mapping[str, str]) -> dict[str, int]:
        """Port → pixels per place, for the inputs that are spatial."""
        known = {name: tensor.stride for name, tensor in self.tensors.items() if tensor.rect is not None}
        known[PICTURE] = 1
        return {port: known[source] for port, source in inputs.items() if source in known}

    def change(self, name: str) -> Placed:
        """A tensor that may be changed in place: the job's own copy."""
        self.tensors[name] = replace(self.tensors[name], array=self.tensors[name].array.copy())
        if self.memo is not None:
            self.versions[name] = self.memo.version()
        return self.tensors[name]

    def forget(self, names: set[str]) -> None:
        for name in names:
            self.tensors.pop(name, None)


def _padded(picture: Picture, rect: Rect) -> Picture:
    """[height, width, 3] → [1, 3, ...] of `rect`, the last row and column repeated beyond the picture."""
    height, width = picture.shape[:2]
    rows = slice(min(rect.top, height - 1), min(rect.bottom, height))
    columns = slice(min(rect.left, width - 1), min(rect.right, width))
    planes = picture[rows, columns].transpose(2, 0, 1)[None]
    missing = rect.bottom - rect.top - planes.shape[2], rect.right - rect.left - planes.shape[3]
    return np.pad(planes, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])), mode="edge")
