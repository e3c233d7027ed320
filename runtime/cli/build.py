"""`nicrt build`: engines of a bundle's graphs, compiled ahead of time."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..bundle import Bundle
from ..installed import open_bundle
from ..profiles import DEFAULT_PICTURES, Pictures


def run(options: argparse.Namespace) -> int:
    from ..backends.tensorrt_build import build_bundle
    from ..backends.tensorrt_engines import engines_folder
    from ..backends.tensorrt_library import library

    bundle, pictures, used = open_bundle(options.bundle), _pictures(options), library()
    folder = Path(options.output) if options.output else engines_folder()
    check = _checker(bundle, folder) if options.check else None
    rows = []
    for built in build_bundle(bundle, pictures, folder, used, encoding=options.encoder, replace=not options.no_clobber):
        row: dict[str, Any] = {
            "graph": built.graph,
            "kind": "exact" if bundle.manifest.graphs[built.graph].exact else "float",
            "seconds": round(built.seconds, 3),
            "engine_bytes": built.engine_bytes,
            "symbols": built.profile.symbols,
            "file": built.path.name,
        }
        if check is not None:
            row["checked"] = check(built.graph)
        rows.append(row)
    result = {
        "bundle": bundle.manifest.name,
        "library": str(used),
        "target": used.target(),
        "folder": str(folder),
        "smallest": _size(pictures.least),
        "usual": _size(pictures.usual),
        "largest": _size(pictures.most),
        "batch": pictures.batch,
        "graphs": rows,
    }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    return 0


def _pictures(options: argparse.Namespace) -> Pictures:
    """Shapes that are not given follow those that are."""
    given = [shape and (shape[1], shape[0]) for shape in (options.min_shapes, options.opt_shapes, options.max_shapes)]
    default = DEFAULT_PICTURES
    usual = given[1] or (_smaller(default.usual, given[2]) if given[2] else default.usual)
    most = given[2] or (max(default.most[0], usual[0]), max(default.most[1], usual[1]))
    return Pictures(given[0] or default.least, usual, most, options.batch)


def _smaller(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return min(a[0], b[0]), min(a[1], b[1])


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _checker(bundle: Bundle, folder: Path) -> Callable[[str], str]:
    """Loads a graph's engine, which proves an exact graph and passes a float one through the gate."""
    from ..backends.proving import prove
    from ..backends.tensorrt import TensorRt

    backend = TensorRt(folder)

    def check(name: str) -> str:
        stored = bundle.graph(name)
        executable = backend.load(stored)
        if not stored.entry.exact:
            return "as ONNX Runtime's, up to rounding"
        prove(stored, executable, backend.identity())
        return "exact"

    return check


def _print(result: dict[str, Any]) -> None:
    sizes = f"{result['smallest']} to {result['largest']}, usually {result['usual']}"
    print(f"{result['bundle']}: {result['library']}, {result['target']}")
    print(f"pictures of {sizes}, {result['batch']} at a time")
    rows = result["graphs"]
    width = max([5, *(len(row["graph"]) for row in rows)])
    print(f"{'graph':{width}}  kind   seconds  engine bytes  extents")
    for row in rows:
        extents = ", ".join(f"{symbol} {low}..{high}" for symbol, (low, _, high) in row["symbols"].items())
        columns = f"{row['graph']:{width}}  {row['kind']:5}  {row['seconds']:7.3f}  {row['engine_bytes']:12}  {extents}"
        print(columns + (f"  {row['checked']}" if "checked" in row else ""))
    seconds, size = (sum(row[key] for row in rows) for key in ("seconds", "engine_bytes"))
    print(f"{len(rows)} engines in {seconds:.1f} s, {size} bytes, in {result['folder']}")
