"""Rate, distortion and time of a codec on pictures: real files, results in the layout of CompressAI's result files,
Bjontegaard deltas between two of them. Of bundles, and of peers (`peers.py`)."""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import ImageError, UnsupportedError, one_line
from .target import psnr_of

if TYPE_CHECKING:
    from .codec import Codec

Pixels = npt.NDArray[np.uint8]

PSNR_OF_EQUAL = 100.0  # dB, in place of infinity, which JSON has not
MS_SSIM_SIDE = 161  # shortest side for its five scales of 11-tap windows
DEFAULT_QUALITIES = (10.0, 30.0, 50.0, 70.0, 90.0)
RATE, PSNR, MS_SSIM = "bpp", "psnr-rgb", "ms-ssim-rgb"


class Coder(Protocol):
    """What is evaluated: a bundle or a peer. `qualities`: where nobody asks for others."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def qualities(self) -> Sequence[float]: ...

    def encode(self, pixels: Pixels, quality: float) -> bytes: ...

    def decode(self, data: bytes) -> Pixels: ...


@dataclass(frozen=True)
class Measurement:
    """One picture at one quality. `sha256`: of its size and pixels, the first 16 digits. `ms_ssim` is None for pictures
    too small for it."""

    picture: str
    sha256: str
    quality: float
    bpp: float
    psnr: float
    ms_ssim: float | None
    encode_ms: float
    decode_ms: float


class BundleCoder:
    """A codec bundle; `settings` go to `Codec.encode`."""

    def __init__(self, codec: Codec, name: str, settings: Mapping[str, Any]) -> None:
        manifest = codec.bundle.manifest
        points = {point.quality for point in manifest.quality if settings.get("variant") in (None, point.variant)}
        self.name = name
        self.description = f"nicrt bundle {manifest.name}: {manifest.summary}"
        self.qualities: Sequence[float] = sorted(points) if len(points) >= len(DEFAULT_QUALITIES) else DEFAULT_QUALITIES
        self._codec, self._settings = codec, settings

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return self._codec.encode(pixels, quality=quality, **self._settings)

    def decode(self, data: bytes) -> Pixels:
        return self._codec.decode(data)


def psnr(a: Pixels, b: Pixels) -> float:
    """dB of two pictures of the same shape, peak 255, over all their values."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return min(PSNR_OF_EQUAL, psnr_of(error))


def ms_ssim(a: Pixels, b: Pixels) -> float | None:
    """Multi-scale structural similarity (Wang, Simoncelli, Bovik 2003) of two RGB pictures, mean of the three channels;
    None where a side is shorter than MS_SSIM_SIDE."""
    if min(a.shape[:2]) < MS_SSIM_SIDE:
        return None
    package = _needed("pytorch_msssim")
    torch = _needed("torch")
    x, y = (torch.from_numpy(p.astype(np.float32).transpose(2, 0, 1)[None].copy()) for p in (a, b))
    return float(package.ms_ssim(x, y, data_range=255))


def _needed(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise UnsupportedError(f"evaluating needs {name}: pip install 'nicrt[evaluate]' ({one_line(error)})") from None


def measure(
    coder: Coder, pictures: Mapping[str, Pixels], qualities: Iterable[float], seen: Callable[[Measurement], None]
) -> list[Measurement]:
    """Encode and decode every picture at every quality. Graphs are loaded before the clock runs; `seen` gets each
    measurement at once."""
    found = []
    for quality in qualities:
        first = next(iter(pictures.values()))
        coder.decode(coder.encode(first[:64, :64], quality))
        for name, pixels in pictures.items():
            found.append(_measured(coder, name, pixels, quality))
            seen(found[-1])
    return found


def _measured(coder: Coder, name: str, pixels: Pixels, quality: float) -> Measurement:
    begin = time.perf_counter()
    data = coder.encode(pixels, quality)
    encoded = time.perf_counter()
    decoded = coder.decode(data)
    end = time.perf_counter()
    height, width = pixels.shape[:2]
    return Measurement(
        picture=name,
        sha256=hashlib.sha256(b"%d %d " % (width, height) + pixels.tobytes()).hexdigest()[:16],
        quality=quality,
        bpp=8 * len(data) / (width * height),
        psnr=psnr(decoded, pixels),
        ms_ssim=ms_ssim(decoded, pixels),
        encode_ms=1e3 * (encoded - begin),
        decode_ms=1e3 * (end - encoded),
    )


def results(coder: Coder, found: Sequence[Measurement]) -> dict[str, Any]:
    """The content of a result file: means per quality, by rising rate, in CompressAI's layout (times in seconds), and
    beside them what was measured of each picture."""
    rows = sorted(_means(found), key=lambda row: row[RATE])
    return {
        "name": coder.name,
        "description": coder.description,
        "results": {key: [row[key] for row in rows] for key in rows[0] if key != "quality"},
        "qualities": [row["quality"] for row in rows],
        "pictures": [{key: _rounded(value) for key, value in asdict(item).items()} for item in found],
    }


def _rounded(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value


def _means(found: Sequence[Measurement]) -> Iterator[dict[str, float]]:
    for quality in dict.fromkeys(item.quality for item in found):
        items = [item for item in found if item.quality == quality]
        similar = [item.ms_ssim for item in items if item.ms_ssim is not None]
        row = {
            "quality": quality,
            PSNR: fmean(item.psnr for item in items),
            RATE: fmean(item.bpp for item in items),
            "encoding_time": fmean(item.encode_ms for item in items) / 1e3,
            "decoding_time": fmean(item.decode_ms for item in items) / 1e3,
        }
        if len(similar) == len(items):
            row[MS_SSIM] = fmean(similar)
        yield {key: round(value, 5) for key, value in row.items()}


def read_results(path: Path) -> dict[str, Any]:
    """A result file, ours or CompressAI's. Raises ImageError when it cannot be read, UnsupportedError for another."""
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UnsupportedError(f"{path} is not JSON: {one_line(error)}") from None
    values = data.get("results") if isinstance(data, dict) else None
    if not isinstance(values, dict) or not {RATE, PSNR} <= set(values):
        raise UnsupportedError(f"{path} is not a result file: it has no results with {RATE!r} and {PSNR!r}")
    return {"name": path.stem, **data}


def check_same_pictures(anchor: Mapping[str, Any], test: Mapping[str, Any]) -> bool:
    """Whether both result files say of which pictures they are. Raises ValueError where those differ: a difference of
    rates is one of codecs only on the same pictures."""
    sets = [_pictures(each) for each in (anchor, test)]
    if not all(sets):
        return False
    if all(digest for pictures in sets for digest in pictures.values()):  # names may have changed
        sets = [{str(digest): name for name, digest in pictures.items()} for pictures in sets]
    else:
        sets = [{name: name for name in pictures} for pictures in sets]
    first, second = sets
    differences = [
        f"{len(alone)} only in {each['name']} ({', '.join(alone[:3])}{', ..' * (len(alone) > 3)})"
        for each, alone in (
            (anchor, sorted(first[key] for key in first.keys() - second)),
            (test, sorted(second[key] for key in second.keys() - first)),
        )
        if alone
    ]
    if differences:
        raise ValueError(f"results of different pictures cannot be compared: {'; '.join(differences)}")
    return True


def _pictures(results: Mapping[str, Any]) -> dict[str, str]:
    """Picture → digest of its pixels, "" in files from before there was one; nothing where they are not listed."""
    rows = results.get("pictures") or []
    try:
        return {str(row["picture"]): str(row.get("sha256", "")) for row in rows}
    except (TypeError, KeyError, AttributeError):  # something else of another tool's
        return {}


def compare(anchor: Mapping[str, Any], test: Mapping[str, Any]) -> dict[str, float]:
    """Bjontegaard deltas of `test` against `anchor` (contents of result files): BD-rate in percent by PSNR and, where
    both have it, by MS-SSIM in dB; BD-PSNR in dB. NaN where the curves do not overlap. Akima interpolation of log
    rate (Herglotz et al., 2022), over the range that both cover."""
    package = _needed("bjontegaard")
    rates, psnrs = ([each["results"][key] for each in (anchor, test)] for key in (RATE, PSNR))
    deltas = {
        "bd_rate_psnr": _delta(package.bd_rate, rates, psnrs),
        "bd_psnr": _delta(package.bd_psnr, rates, psnrs),
    }
    if all(MS_SSIM in each["results"] for each in (anchor, test)):
        similar = [decibels(each["results"][MS_SSIM]) for each in (anchor, test)]
        deltas["bd_rate_ms_ssim"] = _delta(package.bd_rate, rates, similar)
    return deltas


def _delta(function: Callable[..., Any], rates: Sequence[Any], distortions: Sequence[Any]) -> float:
    curves = []
    for rate, distortion in zip(rates, distortions, strict=True):
        points = sorted(zip(rate, distortion, strict=True))
        if len(points) < 2 or any(a[1] >= b[1] for a, b in pairwise(points)):
            raise ValueError("a curve needs two points or more, whose distortion gets better with the rate")
        curves += [list(axis) for axis in zip(*points, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of little overlap: the caller sees NaN, or chose the points
        return float(function(*curves, method="akima", require_matching_points=False, min_overlap=0))


def decibels(ms_ssims: Iterable[float]) -> list[float]:
    """MS-SSIM → -10 log10(1 - MS-SSIM)."""
    return [-10 * math.log10(max(1e-10, 1 - value)) for value in ms_ssims]


def plot(curves: Sequence[Mapping[str, Any]], target: str) -> bytes:
    """Rate-distortion curves of result files → an image of the type that the name `target` says: PSNR, and MS-SSIM in
    dB where all have it."""
    _needed("matplotlib")
    figures = _needed("matplotlib.figure")
    panels = [(PSNR, "PSNR (dB)")]
    if all(MS_SSIM in curve["results"] for curve in curves):
        panels.append((MS_SSIM, "MS-SSIM (dB)"))
    figure = figures.Figure(figsize=(6.4 * len(panels), 4.8), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for curve in curves:
            values = curve["results"][key]
            shown = decibels(values) if key == MS_SSIM else values
            axes.plot(curve["results"][RATE], shown, marker=".", label=curve["name"])
        axes.set_xlabel("bits per pixel")
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        axes.legend()
    buffer = io.BytesIO()
    try:
        figure.savefig(buffer, format=Path(target).suffix.lstrip(".") or "png", dpi=110, metadata={"Software": None})
    except ValueError as error:
        raise ImageError(f"cannot plot to {target}: {one_line(error)}") from None
    return buffer.getvalue()
