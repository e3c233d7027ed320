"""Bind committed `.nic` files to the ids of bundles that were exported again: python tests/golden/rebind.py OLD [NEW]

OLD and NEW (default: engines) are folders of bundles, or git revisions that have them under engines/. Every committed
file that has the old ids of a variant gets its new ones: symbol id, picture id and the header's checksum change, and
all else is proven to be byte-equal before anything is written. That is right where symbols stay what they were and
pixels stay within one grey level, which `tests/test_golden.py` shows afterwards; where bits change, run `make.py`.
Prints a line per variant for the ledger in CHANGELOG.md. The files of `bad/` are made again from their good file.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from nicrt import _core

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from golden.make import BAD, bad_files  # noqa: E402

SYMBOL_ID_BYTES, PICTURE_ID_BYTES, CRC_BYTES = 8, 4, 4
IDS_BYTES = SYMBOL_ID_BYTES + PICTURE_ID_BYTES
GOOD_OF_BAD = HERE / "shallow" / "harbour-q20.nic"

Ids = dict[str, bytes]  # "BUNDLE/VARIANT" → symbol id and picture id, 12 bytes


class RebindError(Exception):
    """A file that cannot be bound by changing ids and checksum alone."""


def ids_of(source: str) -> Ids:
    """Of all bundles of a folder, or of engines/ in a git revision."""
    folder = Path(source)
    if folder.is_dir():
        texts = {path.parent.name: path.read_text() for path in sorted(folder.glob("*/manifest.json"))}
    else:
        names = _git("ls-tree", "--name-only", f"{source}:engines").split()
        texts = {name: _git("show", f"{source}:engines/{name}/manifest.json") for name in names}
    return {
        f"{bundle}/{name}": bytes.fromhex(variant["symbol_id"] + variant["picture_id"])
        for bundle, text in texts.items()
        for name, variant in json.loads(text)["variants"].items()
    }


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True)
class Places:
    """Offsets in a file: of the ids, and of the header's checksum."""

    ids: int
    crc: int


def places(data: bytes) -> Places:
    """FORMAT.md sections 1 and 2: signature, version, header_size, then flags and the ids."""
    version_end = _varint_end(data, len(b"\x89NIC\r\n\x1a\n"))
    size_end = _varint_end(data, version_end)
    header_size = sum((byte & 127) << 7 * i for i, byte in enumerate(data[version_end:size_end]))
    found = Places(_varint_end(data, size_end), size_end + header_size)
    if found.ids + IDS_BYTES > found.crc or found.crc + CRC_BYTES > len(data):
        raise RebindError("ends inside its header")
    return found


def _varint_end(data: bytes, place: int) -> int:
    while place < len(data) and data[place] & 128:
        place += 1
    return place + 1


def rebound(data: bytes, old: Ids, new: Ids) -> tuple[str, bytes]:
    """(variant, the file with its new ids). Raises RebindError."""
    at = places(data)
    if data[at.crc : at.crc + CRC_BYTES] != struct.pack("<I", _core.crc32c(data[: at.crc])):
        raise RebindError("its header's checksum is wrong")
    ids = data[at.ids : at.ids + IDS_BYTES]
    names = [name for known in (old, new) for name, value in known.items() if value == ids]
    if not names:
        raise RebindError(f"its ids {ids[:8].hex()} {ids[8:].hex()} are neither old nor new ones")
    if names[0] not in new:
        raise RebindError(f"there is no new {names[0]}")
    head = data[: at.ids] + new[names[0]] + data[at.ids + IDS_BYTES : at.crc]
    result = head + struct.pack("<I", _core.crc32c(head)) + data[at.crc + CRC_BYTES :]
    prove(data, result, at)
    return names[0], result


def prove(before: bytes, after: bytes, at: Places) -> None:
    """That nothing but ids and checksum changed."""
    allowed = {*range(at.ids, at.ids + IDS_BYTES), *range(at.crc, at.crc + CRC_BYTES)}
    if len(before) != len(after) or any(i not in allowed for i in range(len(after)) if before[i] != after[i]):
        raise RebindError("more than ids and checksum would change")


def bad_rebound(folder: Path, before: bytes, after: bytes) -> dict[Path, bytes]:
    """The damaged files, made from their good one as it will be; proven to be those made from it as it is."""
    made, again = bad_files(before), bad_files(after)
    result = {}
    for name, (data, _, _) in again.items():
        path = folder / f"{name}.nic"
        if path.read_bytes() not in (made[name][0], data):
            raise RebindError(f"{path}: not what make.py makes of {GOOD_OF_BAD.name}")
        result[path] = data
    return result


def rebind(files: list[Path], old: Ids, new: Ids) -> dict[str, int]:
    """variant → files bound to it. All are computed and proven before one is written."""
    written: dict[Path, bytes] = {}
    counts: dict[str, int] = {}
    for path in files:
        if path.parent != BAD:
            try:
                variant, written[path] = rebound(path.read_bytes(), old, new)
            except RebindError as error:
                raise RebindError(f"{path}: {error}") from None
            counts[variant] = counts.get(variant, 0) + 1
    if GOOD_OF_BAD in written:
        written |= bad_rebound(BAD, GOOD_OF_BAD.read_bytes(), written[GOOD_OF_BAD])
    for path, data in written.items():
        if path.read_bytes() != data:
            path.write_bytes(data)
    return counts


def main(old_source: str, new_source: str = str(ROOT / "engines")) -> None:
    old, new = ids_of(old_source), ids_of(new_source)
    files = [ROOT / line for line in _git("ls-files", "*.nic").splitlines()]
    counts = rebind(files, old, new)
    for name in sorted(old.keys() | new.keys()):
        before, after = (f"{k[name][:8].hex()} {k[name][8:].hex()}" if name in k else "none" for k in (old, new))
        print(f"- {name}: {before} → {after} ({counts.get(name, 0)} files)")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except RebindError as error:
        sys.exit(f"error: {error}")
