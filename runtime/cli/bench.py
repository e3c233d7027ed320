"""`nicrt bench`: a table for people, JSON for machines, a comparison of two, a plot."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

from ..errors import ImageError, UnsupportedError, one_line
from .files import STANDARD, about, check_outputs, read, write
from .options import device_of, limits_of, threads_of
from .report import Report, own_warnings


def run(options: argparse.Namespace) -> int:
    replace = not options.no_clobber
    check_outputs([options.json, options.plot], [*options.targets, *(options.compare or ())], replace=replace)
    if options.compare:
        _print_comparison(*(_load(path) for path in options.compare))
        return 0
    if not options.targets:
        raise ValueError("a bundle or a file to measure is needed")
    from .. import bench

    report = Report(quiet=False, total=1)
    with own_warnings(report):
        result = bench.run(
            options.targets,
            sizes=options.size or [(768, 512)],
            threads=threads_of(options),
            backend=options.backend,
            device=device_of(options),
            repeat=options.repeat,
            batch=options.batch,
            quality=options.quality,
            lanes=options.lanes,
            limits=limits_of(options),
        )
    # files first: measuring takes long, and standard output may take no table
    if options.json:
        write(options.json, (json.dumps(result, indent=2) + "\n").encode(), replace=replace)
    if options.plot:
        write(options.plot, _plot(result, options.plot), replace=replace)
        report.note(f"plot: {options.plot}")
    if STANDARD not in (options.json, options.plot):
        _print_table(result)
    return 0


def _load(path: str) -> dict[str, Any]:
    with about(path):
        try:
            loaded = json.loads(read(path))
        except (ValueError, RecursionError) as error:
            raise UnsupportedError(f"not JSON: {one_line(error)}") from None
        if not isinstance(loaded, dict) or not {"machine", "runs", "peers"} <= set(loaded):
            raise UnsupportedError("not a result of `nicrt bench --json`")
    return loaded


def _rows(result: dict[str, Any]) -> list[tuple[str, dict[str, float], float | None]]:
    """(name, percentiles, MP/s) of every run, its steps indented below it, then the peers."""
    rows: list[tuple[str, dict[str, float], float | None]] = []
    for entry in result["runs"]:
        rows.append((f"{entry['name']}, {entry['bpp']:.3f} bpp", entry["whole"], entry["megapixels_per_second"]))
        rows.extend((f"  {name}", step, None) for name, step in entry["steps"].items())
    for peer in result["peers"]:
        rows.append((f"{peer['name']}, {peer['bpp']:.3f} bpp", peer["whole"], peer["megapixels_per_second"]))
    return rows


def _print_table(result: dict[str, Any]) -> None:
    machine = result["machine"]
    print(f"{machine['cpu']}, {machine['processors']} processors; GPU: {machine['gpu'] or 'none'}")
    rows = _rows(result)
    width = max(len(name) for name, _, _ in rows)
    print(f"{'':{width}}  {'p50 ms':>9} {'p90 ms':>9} {'p99 ms':>9} {'max ms':>9} {'MP/s':>8}")
    for name, times, speed in rows:
        columns = " ".join(f"{times[key]:9.3f}" for key in ("p50_ms", "p90_ms", "p99_ms", "max_ms"))
        print(f"{name:{width}}  {columns} {'' if speed is None else f'{speed:8.1f}'}")
    for entry in result["runs"]:
        facts = [_place(entry)]
        if "batch" in entry:
            facts.append(f"{entry['batch']['files']} files: {entry['batch']['megapixels_per_second']} MP/s")
        print(f"{entry['name']}: {', '.join(facts)}")


def _place(entry: dict[str, Any]) -> str:
    """Where a run was: on a device, or on the CPU with what its whole process takes."""
    if "device" in entry:
        replayed = ", ".join(dict.fromkeys(plan["captured"] for plan in entry["device"]["plans"]))
        return f"on {entry['device']['name']}, replayed {replayed}"
    cold = entry["cold_start"]
    return f"as a process {cold['p50_ms']} ms, peak memory {cold['peak_rss_mib']} MiB"


def _print_comparison(before: dict[str, Any], after: dict[str, Any]) -> None:
    """p50 of everything that both have, and the ratio: below 1 is faster."""
    old = {name: times["p50_ms"] for name, times, _ in _named(before)}
    new = {name: times["p50_ms"] for name, times, _ in _named(after)}
    shared = [name for name in old if name in new]
    if not shared:
        raise ValueError("the two results have nothing in common")
    width = max(map(len, shared))
    print(f"{'p50 ms':{width}}  {'before':>9} {'after':>9} {'ratio':>7}")
    for name in shared:
        print(f"{name:{width}}  {old[name]:9.3f} {new[name]:9.3f} {new[name] / max(old[name], 1e-9):7.2f}")


def _named(result: dict[str, Any]) -> list[tuple[str, dict[str, float], float | None]]:
    """Rows whose names tell a step's run: two runs may have the same steps."""
    rows, run_name = [], ""
    for name, times, speed in _rows(result):
        run_name = run_name if name.startswith("  ") else name.partition(",")[0]
        rows.append((f"{run_name}:{name.strip()}" if name.startswith("  ") else run_name, times, speed))
    return rows


def _plot(result: dict[str, Any], path: str) -> bytes:
    """Bars of the steps, as an image of the type that the name `path` says."""
    try:
        from matplotlib.figure import Figure  # unlike pyplot's figures, nobody has to close it
    except ImportError:
        raise UnsupportedError("the plot needs matplotlib: pip install 'nicrt[evaluate]'") from None
    figure = Figure(figsize=(8, 1 + 0.5 * (len(result["runs"]) + len(result["peers"]))))
    axes = figure.subplots()
    for entry in result["runs"]:
        left = 0.0
        for name, step in entry["steps"].items():
            axes.barh(entry["name"], step["p50_ms"], left=left, label=name)
            left += step["p50_ms"]
    for peer in result["peers"]:
        axes.barh(peer["name"], peer["whole"]["p50_ms"], color="lightgrey")
    axes.invert_yaxis()
    axes.set_xlabel("decode, p50 ms")
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique.keys(), fontsize="small")
    figure.tight_layout()
    buffer = io.BytesIO()
    try:
        figure.savefig(buffer, format=Path(path).suffix.lstrip(".") or "png")
    except ValueError as error:
        raise ImageError(f"cannot plot to {path}: {one_line(error)}") from None
    return buffer.getvalue()
