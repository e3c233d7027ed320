"""Answers requests, one JSON object a line, in a process in which nicrt and its libraries cannot be imported.

{"do": "ids" | "check" | "prove", "bundle": PATH} or {"do": "decode", "bundle": PATH, "file": PATH, "to": PATH of .npy}
→ {"error": kind or null, "message": ..., "ids": ..., "symbols": SHA-256 as in the golden files' good.json, ...}
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

FORBIDDEN = ("nicrt", "onnx", "onnxruntime", "torch", "msgspec", "safetensors")


class Refuse(MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in FORBIDDEN:
            raise AssertionError(f"the independent reader imports {name}")


sys.meta_path.insert(0, Refuse())

import numpy as np  # noqa: E402

from . import container  # noqa: E402
from .bundle import Bundle  # noqa: E402
from .decoder import Decoder, proof_sha256  # noqa: E402
from .errors import ReaderError  # noqa: E402


def answer(request: dict[str, Any]) -> dict[str, Any]:
    bundle = Bundle(Path(request["bundle"]))
    if request["do"] == "ids":
        return {"ids": {n: [v["symbol_id"], v["picture_id"]] for n, v in bundle.manifest["variants"].items()}}
    if request["do"] == "check":
        bundle.check_leaves()
        return {}
    if request["do"] == "prove":
        graphs = {name: graph for name, graph in bundle.graphs.items() if graph["exact"] and graph["native"]}
        missed = [
            n for n, g in graphs.items() for p in g["proofs"] if proof_sha256(bundle.form(n), g, p) != p["sha256"]
        ]
        return {"proved": len(graphs), "missed": missed}
    decoder = Decoder(bundle, container.parse(Path(request["file"]).read_bytes()))
    np.save(request["to"], decoder.decode())
    symbols = hashlib.sha256(b"".join(tensor.astype("<i4").tobytes() for tensor in decoder.symbols))
    return {"symbols": symbols.hexdigest()}


def main() -> None:
    for line in sys.stdin:
        try:
            reply = {"error": None, **answer(json.loads(line))}
        except ReaderError as error:
            reply = {"error": type(error).__name__, "message": str(error)}
        assert not set(FORBIDDEN) & {name.split(".")[0] for name in sys.modules}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
