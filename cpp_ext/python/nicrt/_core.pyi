"""Types of the C++ core; the docstrings are in cpp_ext/python/*.cpp."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

class Bundle:
    @staticmethod
    def open(path: str) -> Bundle: ...
    @staticmethod
    def of_bytes(data: bytes) -> Bundle: ...
    @property
    def manifest(self) -> bytes: ...
    def graph_hash(self, graph: str) -> str: ...
    def onnx(self, graph: str) -> bytes: ...
    def weights(self, graph: str) -> dict[str, NDArray[np.generic]]: ...
    def card(self) -> str | None: ...
    def check_parts(self) -> None: ...

class Codebook:
    def __init__(
        self,
        low: NDArray[np.int16],
        shift: NDArray[np.uint8],
        sizes: NDArray[np.int32],
        frequencies: NDArray[np.uint16],
    ) -> None: ...
    def __len__(self) -> int: ...

class EncodedStream:
    @property
    def coded(self) -> int: ...
    @property
    def segments(self) -> int: ...
    @property
    def bytes(self) -> int: ...

class Stream:
    @property
    def tile_count(self) -> int: ...
    @property
    def segment_count(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def lanes(self) -> dict[int, int]: ...
    def window(self, grid_columns: int, first_row: int, first_column: int, rows: int, columns: int) -> Stream: ...

class File:
    @property
    def symbol_id(self) -> bytes: ...
    @property
    def picture_id(self) -> bytes: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def tile_size(self) -> int: ...
    @property
    def parameters(self) -> list[list[int]]: ...
    @property
    def stages(self) -> list[list[Stream]]: ...
    @property
    def header_size(self) -> int: ...
    @property
    def total_size(self) -> int: ...
    def complete_stages(self, size: int) -> int: ...
    def check_complete(self, size: int) -> None: ...
    def check_segments(self, data: Buffer, stages: int | None = None) -> None: ...

def encode_segment(
    codebook: Codebook, table_ids: NDArray[np.uint8], symbols: NDArray[np.int16], lanes: int
) -> bytes: ...
def decode_segment(
    codebook: Codebook,
    table_ids: NDArray[np.uint8],
    segment: Buffer,
    lanes: int,
    isa: str = "best",
    path: str = "automatic",
    out: NDArray[np.int16] | None = None,
) -> NDArray[np.int16]: ...
def isas() -> list[str]: ...
def crc32c(data: Buffer, crc: int = 0) -> int: ...
def parse(data: Buffer, max_header_bytes: int = 1048576, max_pixels: int = 67108864, max_stages: int = 64) -> File: ...
def encode_stream(
    codebook: Codebook,
    symbols: NDArray[np.int32],
    index: NDArray[np.uint8],
    tile: int,
    symbols_per_lane: int,
    threads: int,
) -> EncodedStream: ...
def decode_stream(
    codebook: Codebook,
    index: NDArray[np.uint8],
    shape: tuple[int, int, int],
    tile: int,
    data: Buffer,
    stream: Stream,
    threads: int,
    out: NDArray[np.int32] | None = None,
) -> NDArray[np.int32]: ...
def write(
    symbol_id: bytes,
    picture_id: bytes,
    width: int,
    height: int,
    tile_size: int,
    parameters: Sequence[Sequence[int]],
    stages: Sequence[Sequence[EncodedStream]],
) -> bytes: ...

class ChainLayer:
    def __init__(
        self,
        *,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
        stride: tuple[int, int] = (1, 1),
        pad: tuple[int, int] = (0, 0),
        slope: float = 1.0,
        beta: NDArray[np.float32] | None = None,
        gamma: NDArray[np.float32] | None = None,
    ) -> None: ...

class ChainTerm:
    def __init__(self, *, tensor: NDArray[np.float32] | NDArray[np.int32], scale: NDArray[np.float32]) -> None: ...

class Chain:
    def __init__(self, layers: Sequence[ChainLayer], arithmetic: str = "best") -> None: ...
    @property
    def arithmetic(self) -> str: ...
    def run(
        self,
        terms: Sequence[ChainTerm],
        offset: NDArray[np.float32],
        low: float,
        high: float,
        threads: int,
    ) -> NDArray[np.uint8]: ...

def arithmetics() -> list[str]: ...

class NetworkLayer:
    def __init__(
        self, *, weights: NDArray[np.int8], stride: tuple[int, int], pad: tuple[int, int], low: int, high: int
    ) -> None: ...

class NetworkHead:
    def __init__(self, *, weights: NDArray[np.int8], pad: tuple[int, int]) -> None: ...

class Rescale:
    def __init__(
        self,
        *,
        bias: NDArray[np.int32],
        multiplier: NDArray[np.float32],
        negative: NDArray[np.float32] | None = None,
    ) -> None: ...

class ScaleTable:
    def __init__(
        self, *, values: NDArray[np.float32], low: float, high: float, limit: float, unit: float, add: float
    ) -> None: ...

class IndexRule:
    def __init__(
        self,
        *,
        add: float,
        unit: float,
        low: float,
        high: float,
        skip: float,
        skipped: int,
        scales: ScaleTable | None = None,
    ) -> None: ...

class IntegerNetwork:
    def __init__(
        self,
        hidden: Sequence[NetworkLayer],
        heads: Sequence[NetworkHead],
        input_range: tuple[int, int],
        isa: str = "best",
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    def run(
        self,
        tensor: NDArray[np.int32],
        rescales: Sequence[Rescale],
        rules: Sequence[IndexRule | None],
        threads: int,
    ) -> list[NDArray[np.float32] | NDArray[np.uint8]]: ...

def integer_isas() -> list[str]: ...

class OnnxTensor:
    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> list[int]: ...
    @property
    def data(self) -> NDArray[np.uint8]: ...

class OnnxNode:
    @property
    def name(self) -> str: ...
    @property
    def operator(self) -> str: ...
    @property
    def inputs(self) -> list[str]: ...
    @property
    def outputs(self) -> list[str]: ...
    @property
    def attributes(self) -> dict[str, int | float | bytes | OnnxTensor | list[int] | list[float] | list[bytes]]: ...

class OnnxPort:
    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def dims(self) -> list[int | str] | None: ...

class OnnxModel:
    @staticmethod
    def read(data: bytes) -> OnnxModel: ...
    def write(self) -> bytes: ...
    @property
    def opset(self) -> int: ...
    @property
    def operators(self) -> set[str]: ...
    @property
    def nodes(self) -> list[OnnxNode]: ...
    @property
    def initializers(self) -> list[OnnxTensor]: ...
    @property
    def inputs(self) -> list[OnnxPort]: ...
    @property
    def outputs(self) -> list[OnnxPort]: ...

def onnx_operators() -> list[str]: ...
