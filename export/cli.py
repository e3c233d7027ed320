"""`nicrt export FAMILY --checkpoint F -o FOLDER`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from nicrt.runtime.bundle import MAX_CARD_BYTES
from nicrt.runtime.errors import ImageError, UnsupportedError, one_line
from nicrt.runtime.limits import DEFAULT_LIMITS
from nicrt.runtime.manifest import Manifest
from nicrt.runtime.pictures import Rgb, load_picture

from .bundle import BundleSource, write_bundle
from .checkpoints import read_safetensors
from .comparison import compared
from .families import FAMILIES, IMPORTERS
from .float16 import in_float16
from .part import part
from .refusals import about, memory_for
from .tensors import check_finite

KNOWN_CHECKPOINTS = Path(__file__).with_name("checkpoints.json")
"""SHA-256 of a checkpoint file → its licence, its model card if it has one, and how and on what it was trained."""

CARDS = Path(__file__).with_name("cards")
"""Model cards of known checkpoints: they have what was measured with these weights."""

FACTS = "nicrt.recipe"
"""Key in a checkpoint's header of what its recipe says about it, JSON."""


def export_family(
    family: str,
    checkpoint: Path,
    out: Path,
    *,
    base: Path | None = None,
    arch: str | None = None,
    calibrate: Sequence[Path] = (),
    weights_key: str | None = None,
    variant: str | None = None,
    decoder_only: bool = False,
    float16: bool = False,
    card: Path | None = None,
    packed: bool = False,
    report: Callable[[str], None] | None = None,
) -> Manifest:
    """Write the bundle of a family's checkpoint (safetensors, or what an importer reads) to the folder `out`, or
    `packed` to that file; returns its manifest. Exporting the same checkpoint again gives the same bytes. `base`:
    checkpoint of the codec that this one is built on, whose weights it gets under `base.`. `arch`, `calibrate`
    (pictures) and `weights_key` (which of several sets of weights): for importers. `variant` and `decoder_only` leave
    out what `part` says, `float16` casts what `in_float16` says. `card`: file of the model card, by default that of a
    known checkpoint. `report` gets lines about what was made, the last one how its files compare with the codec where
    it was trained (`comparison`). Raises UnsupportedError for what cannot become a bundle, ImageError for files that
    cannot be read or written, LimitError where memory does not suffice, ValueError for a variant that is not there and
    for options that the family does not take. What was in `out` is still there after any of them."""
    data = _read(Path(checkpoint))
    pictures = [_picture(Path(path)) for path in calibrate]
    if family in IMPORTERS:
        if base is not None:
            raise ValueError(f"family {family!r} takes no base checkpoint")
        make, facts = partial(IMPORTERS[family], data, arch, pictures, weights_key), {}
    elif family not in FAMILIES:
        names = ", ".join(sorted([*FAMILIES, *IMPORTERS]))
        raise UnsupportedError(f"there is no family {family!r}; there are: {names}")
    elif arch is not None or weights_key is not None:
        raise ValueError(f"family {family!r} takes no architecture and no key of weights")
    else:
        weights, facts = _weights(Path(checkpoint), data, base)
        make = partial(FAMILIES[family], weights)
    source = part(_made(make, Path(checkpoint), family), variant, decoder_only)
    source = _with_facts(in_float16(source) if float16 else source, family, data, facts, card)
    lines: list[str] = []

    def check(folder: Path, manifest: Manifest) -> None:
        if report is not None:
            lines.extend([*_lines(source, manifest, folder), _comparison(source, folder, pictures, Path(checkpoint))])

    try:
        with memory_for(Path(checkpoint)):
            manifest = write_bundle(source, Path(out), check, packed=packed)
    except OSError as error:
        raise ImageError(f"{out}: cannot write it: {error.strerror or error}") from None
    except (RuntimeError, ValueError) as error:  # of what traces them
        raise UnsupportedError(
            f"{checkpoint}: no graph can be made of these weights: is it trained? ({one_line(error)})"
        ) from error
    if report is not None:
        for line in lines:
            report(line)
    return manifest


def _weights(checkpoint: Path, data: bytes, base: Path | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a checkpoint, with those of `base` under `base.`; what its provenance is to say of both."""
    weights, facts = _tensors(checkpoint, data), _recipe_facts(checkpoint, data)
    if base is not None:
        base_data = _read(Path(base))
        facts["base_checkpoint_sha256"] = hashlib.sha256(base_data).hexdigest()
        weights |= {f"base.{name}": tensor for name, tensor in _tensors(Path(base), base_data).items()}
    return weights, facts


def _with_facts(
    source: BundleSource, family: str, data: bytes, facts: dict[str, Any], card: Path | None
) -> BundleSource:
    """The source with its provenance, and with the licence and the model card that a known checkpoint has. data: the
    checkpoint; card: file of another model card."""
    sha256 = hashlib.sha256(data).hexdigest()
    known: dict[str, Any] = json.loads(KNOWN_CHECKPOINTS.read_text()).get(sha256, {})
    license_name = known.pop("license", source.license)
    text = _card(known.pop("card", None), card)
    provenance = {"family": family, "checkpoint_sha256": sha256, **facts, **known}
    return replace(source, license=license_name, provenance=provenance, card=text)


def _made(make: Callable[[], BundleSource], checkpoint: Path, family: str) -> BundleSource:
    """What a family makes of a checkpoint. Errors get the file's name; whatever a family trips over in tensors that are
    not its own becomes one line."""
    try:
        with memory_for(checkpoint), about(checkpoint):
            return make()
    except KeyError as error:
        raise UnsupportedError(
            f"{checkpoint}: not a checkpoint of family {family!r}: there is no tensor {error.args[0]!r}"
        ) from error
    except (RuntimeError, LookupError) as error:  # of names and shapes that do not fit
        raise UnsupportedError(
            f"{checkpoint}: not a checkpoint of family {family!r}: its tensors have other shapes ({one_line(error)})"
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot read it: {error.strerror or error}") from None


def _card(known: str | None, given: Path | None) -> bytes | None:
    """A model card's text, UTF-8: the one that is `given`, or that a known checkpoint has."""
    if given is None and known is None:
        return None
    path = Path(given) if given is not None else CARDS / str(known)
    data = _read(path)
    if len(data) > MAX_CARD_BYTES:
        raise UnsupportedError(f"{path}: {len(data)} bytes, and a model card has {MAX_CARD_BYTES} at most")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise UnsupportedError(f"{path}: a model card is text in UTF-8") from None
    return data


def _picture(path: Path) -> Rgb:
    with about(path):
        return load_picture(_read(path), DEFAULT_LIMITS.pixels).pixels


def _tensors(checkpoint: Path, data: bytes) -> dict[str, Tensor]:
    with memory_for(checkpoint), about(checkpoint):
        tensors = read_safetensors(data)
        check_finite(tensors)
        return tensors


def recipe_facts(data: bytes) -> dict[str, Any]:
    """What the recipe that trained a safetensors checkpoint wrote about itself into its header; nothing for others."""
    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    facts: dict[str, Any] = json.loads(header.get("__metadata__", {}).get(FACTS, "{}"))
    return facts


def _recipe_facts(checkpoint: Path, data: bytes) -> dict[str, Any]:
    try:
        return dict(recipe_facts(data))
    except (ValueError, TypeError) as error:
        raise UnsupportedError(f"{checkpoint}: what its header says under {FACTS!r} is not a JSON object") from error


def _comparison(source: BundleSource, folder: Path, pictures: Sequence[Rgb], checkpoint: Path) -> str:
    try:
        with memory_for(checkpoint), about(checkpoint):
            return compared(source, folder, pictures)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(f"{checkpoint}: the codec of these weights fails ({one_line(error)})") from error


def _lines(source: BundleSource, manifest: Manifest, out: Path) -> Iterator[str]:
    for graph in source.graphs:
        entry = manifest.graphs[graph.name]
        assert entry.onnx is not None  # every graph has this form
        size = (out / entry.onnx.file).stat().st_size
        forms = "ONNX and native" if entry.native is not None else "ONNX alone"
        cost = f"{forms}, {size} bytes of ONNX, {entry.macs_per_pixel} multiply-accumulates per pixel"
        yield f"graph {graph.name}: " + "; ".join(filter(None, [cost, graph.summary]))
    for name, tables in source.tables.items():
        yield f"tables {name}: {tables.summary()}"
    for name, variant in manifest.variants.items():
        yield f"variant {name}: symbol id {variant.symbol_id}, picture id {variant.picture_id}"
