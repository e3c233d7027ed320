"""What a .nic file says of itself, and which of its stages can be decoded."""

from __future__ import annotations

from dataclasses import dataclass

from nicrt import _core

from .errors import TruncatedError
from .limits import DEFAULT_LIMITS, Limits

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class FileInfo:
    """What a .nic file says of itself, without any bundle. Sizes in bytes and pixels.

    complete_stages: stages whose bytes are all there (fewer than `stages` in a truncated file).
    stream_bytes: per stage, the bytes of each stream.
    """

    width: int
    height: int
    bytes: int
    total_bytes: int
    header_bytes: int
    symbol_id: str
    picture_id: str
    tile_size: int
    parameters: list[list[int]]
    stages: int
    complete_stages: int
    segments: int
    stream_bytes: list[list[int]]

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole file."""
        return 8 * self.total_bytes / (self.width * self.height)


def parse(data: Buffer, limits: Limits) -> _core.File:
    """The header of a file, held against the limits. Raises as `Codec.decode` does."""
    return _core.parse(data, limits.header_bytes, limits.pixels, limits.stages)


def info(data: Buffer, *, limits: Limits = DEFAULT_LIMITS) -> FileInfo:
    """Read the header of a .nic file; the payload may be missing. Raises NicrtError as `Codec.decode` does."""
    file = parse(data, limits)
    return FileInfo(
        width=file.width,
        height=file.height,
        bytes=len(data),
        total_bytes=file.total_size,
        header_bytes=file.header_size,
        symbol_id=file.symbol_id.hex(),
        picture_id=file.picture_id.hex(),
        tile_size=file.tile_size,
        parameters=[list(values) for values in file.parameters],
        stages=len(file.stages),
        complete_stages=file.complete_stages(len(data)),
        segments=sum(stream.segment_count for stage in file.stages for stream in stage),
        stream_bytes=[[stream.size for stream in stage] for stage in file.stages],
    )


def stages_to_run(file: _core.File, size: int, stage: int | None, partial: bool) -> int:
    """How many stages to decode; refuses a file that ends before them."""
    wanted = len(file.stages) if stage is None else stage
    if not 1 <= wanted <= len(file.stages):
        raise ValueError(f"the file has stages 1 to {len(file.stages)}, not {stage}")
    complete = file.complete_stages(size)
    if stage is None and not (partial and complete < wanted):
        file.check_complete(size)
    if complete >= wanted:
        return wanted
    if partial and complete:
        return complete
    raise TruncatedError(f"the file ends after {size} of {file.total_size} bytes, before its first stage is complete")
