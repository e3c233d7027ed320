"""Bundles that every reader must refuse: for each entry of BUNDLE.md section 11, copies of the tiny bundle with one
thing changed. Hashes and ids are made right again after the change, so that nothing but the rule in question refuses.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tiny_bundle import Tiny, safetensors, with_header

Edit = Callable[[Tiny], object]
Make = Callable[[Tiny, Path], Path]
CASES: list[tuple[str, str, Make]] = []
"""(entry of the table, what is wrong, how to make it)"""


def made(entry: str, what: str, make: Make) -> None:
    CASES.append((entry, what, make))


def edited(entry: str, what: str, edit: Edit) -> None:
    """Changed, then bound."""

    def make(tiny: Tiny, folder: Path) -> Path:
        edit(tiny)
        return tiny.bound().write(folder)

    made(entry, what, make)


def unbound(entry: str, what: str, edit: Edit) -> None:
    """Changed, with the old hashes and ids."""

    def make(tiny: Tiny, folder: Path) -> Path:
        edit(tiny)
        return tiny.write(folder)

    made(entry, what, make)


def put(where: Callable[[Tiny], Any], **fields: Any) -> Edit:
    """Sets fields; `...` takes one away."""

    def edit(tiny: Tiny) -> None:
        target = where(tiny)
        for name, value in fields.items():
            if value is ...:
                del target[name.rstrip("_")]
            else:
                target[name.rstrip("_")] = value

    return edit


def array(of: str, name: str, change: Callable[[np.ndarray], np.ndarray] | None) -> Edit:
    """Changes an array of `tables` or `weights`; None takes it away."""

    def edit(tiny: Tiny) -> None:
        arrays = getattr(tiny, of)
        if change is None:
            del arrays[name]
        else:
            arrays[name] = change(arrays[name].copy())

    return edit


def element(place: Any, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[place] = value
        return values

    return change


def whole(tiny: Tiny) -> Any:
    return tiny.manifest


def graph(name: str) -> Callable[[Tiny], Any]:
    return lambda tiny: tiny.graph(name)


def operation(name: str, number: int) -> Callable[[Tiny], Any]:
    return lambda tiny: tiny.operation(name, number)


def program(tiny: Tiny) -> Any:
    return tiny.manifest["variants"]["tiny"]["program"]


def stage(tiny: Tiny) -> Any:
    return program(tiny)["stages"][0]


def step(number: int) -> Callable[[Tiny], Any]:
    return lambda tiny: stage(tiny)["steps"][number]


# file


def _without(name: str) -> Make:
    def make(tiny: Tiny, folder: Path) -> Path:
        tiny.write(folder)
        (folder / name).unlink()
        return folder

    return make


def _pipe(tiny: Tiny, folder: Path) -> Path:
    tiny.write(folder)
    (folder / "weights.safetensors").unlink()
    os.mkfifo(folder / "weights.safetensors")
    return folder


def _folder_for_file(tiny: Tiny, folder: Path) -> Path:
    tiny.write(folder)
    (folder / "card.md").unlink()
    (folder / "card.md").mkdir()
    return folder


def _packed_without(name: str) -> Make:
    def make(tiny: Tiny, folder: Path) -> Path:
        folder.mkdir()
        files = {n: np.frombuffer(data, np.uint8) for n, data in tiny.files().items() if n != name}
        path = folder / "tiny.nicb"
        path.write_bytes(safetensors(files, {"nicrt.manifest": tiny.text().decode()}))
        return path

    return make


def _packed_more(tiny: Tiny, folder: Path) -> Path:
    folder.mkdir()
    return tiny.pack(folder / "tiny.nicb", more=np.zeros(3, np.uint8))


def _packed_words(tiny: Tiny, folder: Path) -> Path:
    folder.mkdir()
    return tiny.pack(folder / "tiny.nicb", **{"card.md": np.frombuffer(tiny.card, np.int8)})


def _packed_rows(tiny: Tiny, folder: Path) -> Path:
    folder.mkdir()
    return tiny.pack(folder / "tiny.nicb", **{"card.md": np.frombuffer(tiny.card, np.uint8).reshape(1, -1)})


def _packed_surrogate(tiny: Tiny, folder: Path) -> Path:
    folder.mkdir()
    tiny.manifest["summary"] = "SURROGATE"
    path = tiny.pack(folder / "tiny.nicb")
    data = path.read_bytes()  # as many bytes of JSON as before, so that nothing moves
    assert data.count(b"SURROGATE") == 1
    path.write_bytes(data.replace(b"SURROGATE", b"\\ud800...", 1))
    return path


def _no_manifest(tiny: Tiny, folder: Path) -> Path:
    folder.mkdir()
    (folder / "tiny.nicb").write_bytes(safetensors({"card.md": np.zeros(3, np.uint8)}))
    return folder / "tiny.nicb"


for _name in ("manifest.json", "tables.safetensors", "weights.safetensors", "graphs/deeper.onnx", "card.md"):
    made("file", f"{_name} is missing", _without(_name))
made("file", "a pipe in the place of one", _pipe)
made("file", "a folder in the place of one", _folder_for_file)
made("file", "a manifest beyond its limit", lambda t, f: t.write(f, t.text() + b" " * (1 << 20)))
edited("file", "a card beyond its limit", lambda t: setattr(t, "card", b" " * ((1 << 20) + 1)))
made("file", "packed: the card is missing", _packed_without("card.md"))
made("file", "packed: a tensor that is no file", _packed_more)
made("file", "packed: a file that is not bytes", _packed_words)
made("file", "packed: a file of two dimensions", _packed_rows)
made("file", "packed: no manifest", _no_manifest)
edited("file", "a name that leaves the folder", put(lambda t: t.manifest["card"], file="../card.md"))


def _renamed(name: str) -> Make:
    """The card under another name, which the manifest has."""

    def make(tiny: Tiny, folder: Path) -> Path:
        tiny.manifest["card"]["file"] = name
        (tiny.bound().write(folder) / "card.md").rename(folder / name)
        return folder

    return make


made("file", "a name that packed bundles cannot have", _renamed("__metadata__"))
made("file", "a name with a line feed at its end", _renamed("card.md\n"))

# safetensors


def _weights(header: Callable[[bytes, bytes], bytes]) -> Make:
    """weights.safetensors from its header's text and its data."""

    def make(tiny: Tiny, folder: Path) -> Path:
        data = safetensors(tiny.weights)
        size = struct.unpack("<Q", data[:8])[0]
        return tiny.write(folder, weights=header(data[8 : 8 + size], data[8 + size :]))

    return make


def _entry(name: str, **fields: Any) -> Make:
    def header(text: bytes, body: bytes) -> bytes:
        entries = json.loads(text)
        entries.setdefault(name, {}).update(fields)
        return with_header(json.dumps(entries).encode(), body)

    return _weights(header)


made("safetensors", "an empty file", _weights(lambda text, body: b""))
made("safetensors", "a header beyond the file", _weights(lambda text, body: struct.pack("<Q", 1 << 20) + text))
made("safetensors", "a header of 2^63 bytes", _weights(lambda text, body: struct.pack("<Q", 1 << 63) + text + body))
made(
    "safetensors",
    "a header beyond its limit",
    _weights(lambda text, body: with_header(text + b" " * (16 << 20), body)),
)
made(
    "safetensors",
    "two tensors of one name",
    _weights(
        lambda text, body: with_header(
            text[:-1] + b', "gains": ' + json.dumps(json.loads(text)["gains"]).encode() + b"}", body
        )
    ),
)
made(
    "safetensors",
    "more than 65536 texts",
    _weights(
        lambda text, body: with_header(
            json.dumps({"__metadata__": {str(i): "" for i in range(1 << 16)}, **json.loads(text)}).encode(), body
        )
    ),
)
made("safetensors", "another type", _entry("gains", dtype="F64", shape=[1, 2]))
made("safetensors", "no header", _weights(lambda text, body: with_header(b"[]", body)))
made(
    "safetensors", "a header in UTF-16", _weights(lambda text, body: with_header(text.decode().encode("utf-16"), body))
)
made("safetensors", "a shape of another size", _entry("gains", shape=[2, 3]))
made("safetensors", "an unknown field", _entry("gains", stride=1))
made("safetensors", "an overlap", _entry("more", dtype="U8", shape=[4], data_offsets=[0, 4]))
made("safetensors", "bytes left over", _weights(lambda text, body: with_header(text, body + b"\0")))
made("safetensors", "bytes that are missing", _weights(lambda text, body: with_header(text, body[:-1])))


def _gap(text: bytes, body: bytes) -> bytes:
    """One byte behind a byte that is no tensor's."""
    entries = json.loads(text)
    entries["more"] = {"dtype": "U8", "shape": [1], "data_offsets": [len(body) + 1, len(body) + 2]}
    return with_header(json.dumps(entries).encode(), body + b"\0\0")


made("safetensors", "a gap", _weights(_gap))

# JSON


def _text(change: Callable[[bytes], bytes]) -> Make:
    return lambda tiny, folder: tiny.write(folder, change(tiny.text()))


def _swap(old: str, new: str) -> Make:
    def change(text: bytes) -> bytes:
        assert old.encode() in text, old
        return text.replace(old.encode(), new.encode(), 1)

    return _text(change)


made("JSON", "no UTF-8", _text(lambda text: text.replace(b"for tests", b"for \x80\xff")))
made("JSON", "UTF-16", _text(lambda text: text.decode().encode("utf-16")))
made("JSON", "a byte order mark", _text(lambda text: b"\xef\xbb\xbf" + text))
made("JSON", "cut", _text(lambda text: text[:-1]))
made("JSON", "two fields of one name", _swap('"name": "tiny",', '"name": "tiny", "name": "tiny",'))
made("JSON", "two fields of one name in provenance", _swap('"made":', '"made": 1, "made":'))
made("JSON", "nested without end", _swap('"by hand"', "[" * 100000 + "]" * 100000))
made("JSON", "provenance of 33 levels", _swap('"by hand"', "[" * 33 + "]" * 33))
made("JSON", "NaN", _swap('"by hand"', "NaN"))
edited("JSON", "an unknown field", put(whole, colour="sRGB"))
edited("JSON", "an unknown field of a graph", put(graph("hyper"), precise=True))
edited("JSON", "an unknown field of a port", put(lambda t: t.graph("synthesis")["inputs"]["y"], unit="m"))
edited("JSON", "an unknown field of an operation", put(operation("analysis", 1), slope=1))
edited("JSON", "an unknown field of a step", put(step(1), by_="channel", order=1))
edited("JSON", "a field that is missing", put(whole, license=...))
edited("JSON", "null where a value belongs", put(whole, summary=None))
edited("JSON", "an integer as a number with a point", put(stage, align=8.0))
edited("JSON", "true for 1", put(stage, tile=True))
made("JSON", "packed: half of a surrogate pair", _packed_surrogate)
edited("JSON", "a name that is none", put(whole, name="tiny bundle"))
edited("JSON", "a name with a line feed at its end", put(whole, name="tiny\n"))
edited("JSON", "a hash in capitals", lambda t: t.graph("hyper")["proofs"][0].update(sha256="A" * 64))
edited("JSON", "another colour", put(whole, color="rgb"))
edited("JSON", "align 0", put(stage, align=0))
edited("JSON", "a halo below 0", put(graph("synthesis"), halo=-1))
edited("JSON", "a dimension of 0", put(lambda t: t.graph("deeper")["inputs"]["v"], dims=["n", 0, "h", "w"]))
edited("JSON", "no variants", put(whole, variants={}))
edited("JSON", "no graph's inputs", put(graph("synthesis"), inputs={}))

# version

for _format in (1, 3):
    edited("version", f"bundle_format {_format}", put(whole, bundle_format=_format))
edited("version", "bundle_format as text", put(whole, bundle_format="2"))
edited("version", "no bundle_format", put(whole, bundle_format=...))
edited("version", "a feature", put(whole, requires=["time-travel"]))

# leaf

unbound("leaf", "another ONNX file", lambda t: setattr(t, "onnx", t.onnx.replace(b"Abs", b"Neg")))
unbound("leaf", "another card", lambda t: setattr(t, "card", b"# tinier\n"))
unbound("leaf", "another weight", array("weights", "up.weight", element((0, 0, 0, 0), 1.0)))
unbound("leaf", "another frequency", array("tables", "y.frequency", lambda f: f[[*range(4), 5, 4, *range(6, len(f))]]))
unbound("leaf", "other channels", array("tables", "z.channel", element((0, 0), 2)))

# id


def _old_ids(edit: Edit) -> Edit:
    """Leaves are right, ids are the old ones."""

    def change(tiny: Tiny) -> None:
        variant = dict(tiny.manifest["variants"]["tiny"])
        edit(tiny)
        tiny.bound()
        tiny.manifest["variants"]["tiny"].update({key: variant[key] for key in ("symbol_id", "picture_id")})

    return change


unbound("id", "other pixels, the old picture id", _old_ids(array("weights", "up.weight", lambda w: -w)))
unbound("id", "another exact graph, the old symbol id", _old_ids(array("weights", "i.weight", lambda w: -w)))
unbound("id", "other tables, the old symbol id", _old_ids(array("tables", "z.channel", element((0, 0), 2))))
unbound("id", "another program, the old ids", _old_ids(put(stage, align=16)))
unbound("id", "another shown tensor", _old_ids(lambda t: stage(t)["show"].update(out={"picture": "shown"})))
for _id in ("symbol_id", "picture_id"):
    unbound(
        "id",
        _id,
        lambda t, key=_id: t.manifest["variants"]["tiny"].update({key: "1" * len(t.manifest["variants"]["tiny"][key])}),
    )

# tables

for _array in ("low", "shift", "size", "frequency"):
    unbound("tables", f"no {_array}", array("tables", f"y.{_array}", None))
edited("tables", "low of another type", array("tables", "y.low", lambda a: a.astype(np.int32)))
edited("tables", "shift too short", array("tables", "y.shift", lambda a: a[:-1]))
unbound("tables", "a size of 1", array("tables", "y.size", element(0, 1)))
unbound("tables", "sizes that are not those of frequency", array("tables", "y.size", element(0, 5)))
unbound("tables", "a channel's table that is not there", array("tables", "z.channel", element((0, 0), 3)))
unbound("tables", "a channel's table below 0", array("tables", "z.channel", element((0, 0), -4)))
unbound("tables", "2^19 channels", array("tables", "z.channel", lambda a: np.zeros((1 << 18, 2), np.int32)))


def _channels_of_two_groups(tiny: Tiny) -> None:
    for part in ("low", "shift", "size", "frequency"):
        tiny.tables[f"more.{part}"] = tiny.tables[f"z.{part}"]
    tiny.tables["more.channel"] = np.zeros((1 << 9, 1 << 9), np.int32)
    tiny.manifest["tables"]["groups"]["more"] = ""


edited("tables", "2^18 channels, and some of another group", _channels_of_two_groups)
edited("tables", "channels in one dimension", array("tables", "z.channel", lambda a: a.astype(np.int16)))
edited(
    "tables",
    "a frequency of 0",
    array("tables", "y.frequency", lambda f: np.concatenate([[f[0] + f[1], 0], f[2:]]).astype(np.uint16)),
)
edited("tables", "a sum that is not 4096", array("tables", "y.frequency", element(0, 1000)))
edited("tables", "a low beyond its range", array("tables", "y.low", element(1, -128)))
edited("tables", "quotients beyond a byte", array("tables", "y.low", element(1, 124)))
edited("tables", "a shift of 13", array("tables", "y.shift", element(2, 13)))
unbound("tables", "a group that the file lacks", lambda t: t.manifest["tables"]["groups"].update(x="0" * 64))
