"""Write the README's tables from the committed results: python benchmarks/readme_tables.py [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. A test keeps README and results equal.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nicrt.runtime.bundle import Bundle
from nicrt.runtime.evaluate import compare
from nicrt.runtime.installed import open_bundle
from nicrt.runtime.peers import PILLOW

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
BUNDLES = ("shallow", "slim", "mean-scale", "compass", "flow")
KODAK = ("shallow", "shallow-e4", "shallow-e6", "slim", "slim-e6", "mean-scale", "compass", "flow", "shallow-jpeg")
PUBLISHED = {
    "shallow": "shallow",
    "shallow-e4": "shallow",
    "shallow-e6": "shallow",
    "slim": "factorized",
    "slim-e6": "factorized",
    "mean-scale": "mean-scale",
    "compass": "mean-scale",
    "shallow-jpeg": "shallow-jpeg",
}
"""Results of other people's weights that a result is compared with: of the same architecture, or the nearest one."""


def load(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shallow_kodak() -> str:
    titles = ("`-q`", "coded", "bpp on disk", "ideal bpp", "PSNR dB", "PyTorch, same symbols")
    titles += ("nothing skipped: bpp, dB", "PyTorch alone: bpp, dB")
    rows = []
    for row in load("shallow_kodak.json"):
        a, b = row["default"], row["nothing_skipped"]
        rows.append(
            [
                str(row["quality"]),
                f"{100 * a['coded_share']:.0f}%",
                f"{a['bpp']:.4f}",
                f"{a['ideal_bpp']:.4f}",
                f"{a['psnr']:.3f}",
                f"{a['model_psnr']:.3f}",
                f"{b['bpp']:.4f}, {b['psnr']:.3f}",
                f"{b['torch_bpp']:.4f}, {b['torch_psnr']:.3f}",
            ]
        )
    return markdown(titles, rows)


def coder() -> str:
    result = load("entropy_coder.json")
    rows = {row["lanes"]: row for row in result["rows"]}
    cold = {(row["lanes"], row["path"]): row["decode_msym_s"] for row in result["cold"]}
    kinds = [key for key in rows[32] if key.startswith("decode_") and key.endswith("_lookup_msym_s")]
    names = {"scalar": "portable", "avx2": "AVX2", "avx512": "AVX-512"}
    lines = []
    for lanes, row in rows.items():
        speeds = [f"{max(row[k], row[k.replace('lookup', 'search')]):.0f}" for k in kinds]
        at_cold = cold.get((lanes, "automatic"))
        lines.append(
            [
                str(lanes),
                f"{row['encode_msym_s']:.0f}",
                *speeds,
                "" if at_cold is None else f"{at_cold:.0f}",
                f"+{row['over_ideal_percent']:.3f}%",
            ]
        )
    decoders = [f"decode, {names[key.split('_')[1]]}" for key in kinds]
    return markdown(["lanes", "encode", *decoders, "decode, 98 304 symbols, cold caches", "over ideal"], lines)


def families() -> str:
    benches = [{run["bundle"]: run for run in load(file)["runs"]} for file in ("bench.json", "bench_avx2.json")]
    lines = []
    for name in BUNDLES:
        bundle = open_bundle(ROOT / "engines" / name)
        graphs = bundle.manifest.graphs
        run = benches[1][name]
        ran = [key.removeprefix("graph ") for key in run["steps"] if key.startswith("graph ")]
        macs = sum(graphs[graph].macs_per_pixel or 0 for graph in ran) / 1000
        lines.append(
            [
                f"`{name}`",
                rate_points(name),
                f"{macs:.1f}" if name != "compass" else "",
                *(decode_ms(bundle, bench[name]) for bench in benches),
                f"{bundle.size_bytes / 1e6:.1f} MB",
            ]
        )
    lines.extend([peer.title, rate_points(name), "", "", "", ""] for name, peer in PILLOW.items())
    titles = ["bundle", "bpp / dB on Kodak", "decoder KMAC per pixel", "decode ms, 768 x 512", "AVX2 alone", "size"]
    return markdown(titles, lines)


def decode_ms(bundle: Bundle, run: dict[str, Any]) -> str:
    """With a star if it was another bundle of this name that was measured."""
    known = any(variant.symbol_id == run["symbol_id"] for variant in bundle.manifest.variants.values())
    return f"{run['whole']['p50_ms']:.0f}{'' if known else ' *'}"


def rate_points(name: str) -> str:
    results = load(f"kodak/{name}.json")["results"]
    points = zip(results["bpp"], results["psnr-rgb"], strict=True)
    return ", ".join(f"{bpp:.2f} / {psnr:.1f}" for bpp, psnr in points)


def decode_steps() -> str:
    run = load("bench.json")["runs"][0]
    rows = [[name, f"{step['p50_ms']:.2f}", f"{step['p99_ms']:.2f}"] for name, step in run["steps"].items()]
    whole = run["whole"]
    rows.append(["**whole**", f"{whole['p50_ms']:.2f}", f"{whole['p99_ms']:.2f}"])
    return markdown(["step", "p50 ms", "p99 ms"], rows)


def large() -> str:
    rows = [
        [f"{row['megapixels']:.0f} MP", f"{row['ms_per_megapixel']:.0f}", str(row["peak_rss_mib"])]
        for row in load("large.json")["rows"]
    ]
    return markdown(["picture", "ms per megapixel", "peak memory of the process, MiB"], rows)


def deep_rows() -> dict[str, Any]:
    """Decoder → what `deep_decoders.py` found, the widths of slim one by one."""
    rows = load("deep_decoders.json")["rows"]
    widths = rows.pop("slim")
    return {**rows, **{f"slim {width}": row for width, row in widths.items()}}


def goals() -> str:
    """What the project wants to reach, and what the results say: the last column is above 1 where the goal is met."""
    coder, bench, large_rows = load("entropy_coder.json"), load("bench.json"), load("large.json")["rows"]
    lanes = {row["lanes"]: row for row in coder["rows"]}
    cold = max(row["decode_msym_s"] for row in coder["cold"])
    shallow = bench["runs"][0]
    compressai = next(peer for peer in bench["peers"] if peer["name"].startswith("CompressAI"))
    slower = large_rows[-1]["ms_per_megapixel"] / large_rows[0]["ms_per_megapixel"]
    jobs = {row["output"].upper(): row["ratio"] for row in load("throughput.json")["rows"]}
    deep = {name: row["decode"]["pytorch / nicrt"]["wall"] for name, row in deep_rows().items()}
    fastest = max(value for key, value in lanes[32].items() if key.startswith("decode_"))
    scalar = max(value for row in lanes.values() for key, value in row.items() if key.startswith("decode_scalar"))
    speed = shallow["megapixels_per_second"]
    at_least = [  # what, goal, measured, unit
        ("rANS decoding, 10 M symbols, one core", 1300, fastest, "Msym/s"),
        ("the same, portable code", 350, scalar, "Msym/s"),
        (
            "the same, AVX2 alone",
            1300,
            max(lanes[32][f"decode_avx2_{p}_msym_s"] for p in ("lookup", "search")),
            "Msym/s",
        ),
        ("rANS encoding", 600, lanes[32]["encode_msym_s"], "Msym/s"),
        ("98 304 symbols, cold caches", 450, cold, "Msym/s"),
        ("`shallow`, file to RGB, one core", 20, speed, "MP/s"),
        *((f"`nicrt decode --jobs 2` against one job, to {to}", 1.8, ratio, "times") for to, ratio in jobs.items()),
        *((f"`{name}`, PyTorch's time over ours", 2, ratio, "times") for name, ratio in deep.items()),
    ]
    at_most = [
        ("rANS, bytes over the ideal", 0.1, max(row["over_ideal_percent"] for row in lanes.values()), "%"),
        ("`nicrt decode` of a Kodak file, as a process", 350, shallow["cold_start"]["p50_ms"], "ms"),
        ("100 MP: time per MP against 1 MP", 1.2, slower, "times"),
        ("100 MP: peak memory of the process", 2048, large_rows[-1]["peak_rss_mib"], "MiB"),
    ]
    rows = [[what, f">= {goal} {unit}", f"{found:.4g}", f"{found / goal:.2f}"] for what, goal, found, unit in at_least]
    rows += [[what, f"<= {goal} {unit}", f"{found:.4g}", f"{goal / found:.2f}"] for what, goal, found, unit in at_most]
    ratio = speed / compressai["megapixels_per_second"]
    rows.append([f"`shallow` against {compressai['name']} in one run", "", f"{ratio:.0f} times as fast", ""])
    return markdown(["what", "goal", "measured", "ratio"], rows)


def bd_rate(anchor: str, test: str) -> float:
    """In percent, of two results on Kodak."""
    return compare(load(f"kodak/{anchor}.json"), load(f"kodak/{test}.json"))["bd_rate_psnr"]


def weights() -> str:
    """BD-rates on Kodak: of the shipped weights against the first ones, other formats, and published results."""
    lines = {}
    for name in KODAK:
        first = f"first/{name.partition('-e')[0]}"
        published = f"published/{PUBLISHED[name]}" if name in PUBLISHED else ""
        known = (RESULTS / "kodak" / f"{first}.json").exists()
        lines[f"`{name.replace('-e', ' -e ')}`"] = (name, first if known else "", *PILLOW, published)
    third = [f"third/{name}" for name in PILLOW]
    lines["`shallow`, every third picture"] = ("third/shallow", "", *third, "")
    lines["the same with `-e 7`, 200 steps"] = ("third/shallow-e7", "", *third, "")
    rows = []
    for title, (name, *anchors) in lines.items():
        rates = [bd_rate(anchor, name) if anchor else math.nan for anchor in anchors]
        rows.append([title, *("" if math.isnan(rate) else f"{rate:+.1f}%" for rate in rates)])
    formats = [peer.title for peer in PILLOW.values()]
    return markdown(["bundle", "first weights", *formats, "published"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "shallow_kodak": shallow_kodak,
    "coder": coder,
    "families": families,
    "decode_steps": decode_steps,
    "large": large,
    "goals": goals,
    "weights": weights,
}


def rendered(text: str) -> str:
    """The README with every table made again."""
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"the README has no place for table {name}")
        before, after = pattern.split(text)[0], pattern.split(text)[-1]
        text = f"{before}<!-- table: {name} -->\n{table()}\n<!-- end -->{after}"
    return text


def main() -> None:
    text = README.read_text()
    made = rendered(text)
    if "--check" in sys.argv:
        if made != text:
            raise SystemExit("the README's tables are not those of the results: python benchmarks/readme_tables.py")
    else:
        README.write_text(made)


if __name__ == "__main__":
    main()
