"""The command line's grammar, and what several commands read from it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from ..limits import DEFAULT_LIMITS, MAX_WORKERS, Limits, cpu_count
from .report import say_error

EPILOG = """\
exit codes: 0 done, 1 an option that does not fit this input, 2 wrong usage, 3 partial picture written (--partial),
4 truncated, 5 corrupt, 6 unsupported, or no such bundle, 7 over a limit or out of memory, 8 the file needs another
bundle than the one given or installed, 9 a picture or file
that cannot be read, or an output that cannot or may not be written, 10 internal error (NICRT_TRACEBACK=1 shows where),
11 encoded, but no quality meets --bpp or --psnr: the nearest file is written, 130 interrupted (143 by SIGTERM),
141 whoever reads standard output has gone.
With several inputs the first failure decides. `-` stands for standard input or output.
"""

EXIT_USAGE = 2

Commands = Any  # argparse keeps the type of add_subparsers' result private


class _Parser(argparse.ArgumentParser):
    """Answers a wrong call in one line."""

    def error(self, message: str) -> NoReturn:
        say_error(f"{message} (see {self.prog} --help)")
        raise SystemExit(EXIT_USAGE)

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file)  # argparse swallows a full disk


def limits_of(options: argparse.Namespace) -> Limits:
    return Limits(
        options.max_pixels, options.max_memory << 20, options.max_header, options.max_stages, options.max_load_time
    )


def threads_of(options: argparse.Namespace) -> int:
    """Threads for one file. Raises ValueError for a total beyond MAX_WORKERS."""
    threads: int = options.threads or max(1, cpu_count() // options.jobs)
    if threads * options.jobs > MAX_WORKERS:
        raise ValueError(f"--jobs {options.jobs} x --threads {threads} is over {MAX_WORKERS}")
    return threads


def device_of(options: argparse.Namespace) -> str | None:
    """Where to decode. Raises ValueError for what is no device, and for a backend besides: on a device it follows."""
    from ..device.devices import named

    device: str | None = options.device
    if device is not None:
        named(device)
        if options.backend != "auto":
            raise ValueError("--backend is who runs graphs on the CPU, and decoding on a --device takes none")
    return device


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    whole = _Parser(
        prog="nicrt",
        description="Learned image compression, as files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="store_true", help="print the version and stop")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND")
    looking = (_add_info, _add_verify, _add_bundles)
    for add in (_add_encode, _add_decode, *looking, _add_bench, _add_evaluate, _add_export, _add_pack, _add_build):
        add(commands)
    return whole


def _number(low: float, high: float, kind: type[int] | type[float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not in {low}..{high}")
        return value

    return parse


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers") from None


def _region(text: str) -> tuple[int, int, int, int]:
    try:
        x, y, width, height = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,W,H") from None
    return x, y, width, height


def _setting(text: str) -> tuple[str, list[int]]:
    name, _, values = text.partition("=")
    try:
        return name, [int(part) for part in values.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=N or NAME=N,N,..") from None


def _add_encode(commands: Commands) -> None:
    encode = commands.add_parser(
        "encode",
        help="pictures → .nic files",
        description="Encode pictures (PNG, JPEG, WebP, AVIF, TIFF, BMP, GIF, JPEG 2000, TGA, QOI, PPM, PFM) as sRGB: "
        "nicrt encode IN OUT.nic, or IN... FOLDER. White is the largest value of integers and 1.0 of floats. A folder "
        "as input stands for the pictures in its tree, which FOLDER gets too. Pictures are never replaced.",
    )
    encode.add_argument("paths", nargs="+", metavar="IN... OUT")
    _add_outputs(encode)
    encode.add_argument("-q", "--quality", type=_number(0, 100, float), default=50.0, help="0..100 (default: 50)")
    _add_program(encode)
    target = encode.add_mutually_exclusive_group()
    bpp, decibels = _number(1e-4, 100, float), _number(1, 100, float)
    target.add_argument("--bpp", type=bpp, help="aim at this many bits per pixel (up to effort 6: never above)")
    target.add_argument("--psnr", type=decibels, help="aim at this many dB (up to effort 6: never below)")
    encode.add_argument(
        "--roi", metavar="MASK", help="picture whose grey values weigh the squared error of each pixel (effort 7 to 9)"
    )
    encode.add_argument(
        "--ms-ssim-weight",
        type=_number(0, 1, float),
        default=0.0,
        metavar="W",
        help="share of MS-SSIM in the distortion, 0..1 (effort 7 to 9)",
    )
    encode.add_argument("--like", metavar="FILE.nic", help="encode with the variant and parameters of this file")
    encode.add_argument("--json", action="store_true", help="one line of JSON per file on standard output")
    _add_lanes(encode)
    _add_work(encode)


def _add_program(command: argparse.ArgumentParser) -> None:
    """What an encoder may be told besides the quality."""
    command.add_argument(
        "-e",
        "--effort",
        type=_number(1, 9, int),
        default=5,
        help="1 fast .. 5 the bundle's best single pass (default); 6: gradient descent on the side information; "
        "7, 8, 9: then 200, 600, 2000 steps on all latents (6 to 9: `export` extra)",
    )
    command.add_argument("--variant", "--width", metavar="NAME", help="variant of the bundle (default: as -q says)")
    command.add_argument("--scales", type=_numbers, metavar="1,2,..", help="sizes of the layers relative to the first")
    command.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=N[,N..]",
        help="value of a parameter of the bundle's program (see `nicrt info BUNDLE`)",
    )


def _add_evaluate(commands: Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="rate, distortion and time on pictures (needs the `evaluate` extra)",
        description="Measure on real files: nicrt evaluate BUNDLE|jpeg|webp|avif PICTURE|FOLDER..., or compare two or "
        "more result files with the first: --compare A.json B.json..",
    )
    evaluate.add_argument("paths", nargs="*", metavar="BUNDLE PICTURE...")
    evaluate.add_argument(
        "-q", "--qualities", type=_numbers, metavar="10,30,..", help="0..100 (default: as the codec suggests)"
    )
    evaluate.add_argument("-o", "--output", metavar="FILE.json", help="write results in CompressAI's layout")
    evaluate.add_argument("--plot", metavar="FILE.png", help="rate-distortion curves")
    evaluate.add_argument("--name", help="of the results (default: the bundle's)")
    evaluate.add_argument("--compare", nargs="+", metavar="FILE.json", help="Bjontegaard deltas against the first file")
    _add_no_clobber(evaluate)
    _add_program(evaluate)
    evaluate.add_argument("--backend", default="auto", help="who runs the graphs (default: auto)")
    evaluate.add_argument("--threads", type=_number(1, MAX_WORKERS, int), help="default: all processors")
    evaluate.add_argument("--quiet", action="store_true", help="only errors on standard error")
    _add_limits(evaluate)
    evaluate.set_defaults(jobs=1)  # times are of one picture at a time


def _add_decode(commands: Commands) -> None:
    decode = commands.add_parser(
        "decode",
        help=".nic files → pictures",
        description="Decode to the type that OUT's name says: nicrt decode IN.nic OUT.png, or IN.nic... FOLDER. A "
        "folder as input stands for the .nic files in its tree, which FOLDER gets too.",
    )
    decode.add_argument("paths", nargs="+", metavar="IN.nic... OUT")
    _add_outputs(decode)
    decode.add_argument("--format", help="type of the pictures in a folder (default: png) or on standard output (ppm)")
    decode.add_argument(
        "--partial", action="store_true", help="of a truncated file, write the stages that are there (exit code 3)"
    )
    decode.add_argument("--stage", type=_number(1, 64, int), help="stop after this stage")
    decode.add_argument("--region", type=_region, metavar="X,Y,W,H", help="decode only this part of the picture")
    decode.add_argument("--scale", type=_number(0.0001, 1, float), help="decode to this share of the size")
    decode.add_argument(
        "--output-quality",
        type=_number(0, 100, int),
        metavar="N",
        help="0..100, of JPEG (default: 95), WebP (default: lossless) and AVIF (default: 90)",
    )
    decode.add_argument("--allow-palette", action="store_true", help="write GIF too: at most 256 colours")
    decode.add_argument("--strict", action="store_true", help="refuse other float graphs and backend fallbacks")
    _add_device(decode)
    _add_work(decode)


def _add_info(commands: Commands) -> None:
    info = commands.add_parser("info", help="what a .nic file or a bundle holds")
    info.add_argument("paths", nargs="+", metavar="FILE|BUNDLE")
    info.add_argument("--json", action="store_true", help="one line of JSON per file or bundle")
    _add_limits(info)


def _add_verify(commands: Commands) -> None:
    verify = commands.add_parser("verify", help="check .nic files without making pixels")
    verify.add_argument("paths", nargs="+", metavar="FILE")
    verify.add_argument("--json", action="store_true", help="one line of JSON per file on standard output")
    _add_work(verify)


def _add_bundles(commands: Commands) -> None:
    commands.add_parser("bundles", help="list the codec bundles that are found")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT")
    return int(width), int(height)


def _add_bench(commands: Commands) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure decoding",
        description="Latency of every decoding step: nicrt bench BUNDLE|FILE..., or --compare A.json B.json",
    )
    bench.add_argument("targets", nargs="*", metavar="BUNDLE|FILE")
    bench.add_argument("--size", type=_size, action="append", metavar="WxH", help="for a bundle (default: 768x512)")
    bench.add_argument("-q", "--quality", type=_number(0, 100, float), default=50.0, help="for a bundle (default: 50)")
    _add_lanes(bench)
    bench.add_argument("--backend", default="auto", help="who runs the graphs (default: auto)")
    _add_device(bench)
    bench.add_argument("--threads", type=_number(1, MAX_WORKERS, int), help="default: all processors")
    bench.add_argument("--repeat", type=_number(1, 100_000, int), default=20, help="default: 20")
    bench.add_argument("--batch", type=_number(1, 100_000, int), default=1, help="also this many files at a time")
    bench.add_argument("--json", metavar="FILE", help="write all figures")
    bench.add_argument("--plot", metavar="FILE.png", help="bars of the steps")
    bench.add_argument("--compare", nargs=2, metavar=("A.json", "B.json"), help="two results side by side")
    _add_no_clobber(bench)
    _add_limits(bench)
    bench.set_defaults(jobs=1)


def _add_export(commands: Commands) -> None:
    export = commands.add_parser("export", help="trained checkpoint → codec bundle (needs the `export` extra)")
    export.add_argument("family", metavar="FAMILY")
    export.add_argument("--checkpoint", required=True, metavar="FILE")
    export.add_argument("-o", "--output", required=True, metavar="FOLDER")
    _add_no_clobber(export)
    export.add_argument("--pack", action="store_true", help="write one file, FILE.nicb, in place of a folder")
    export.add_argument("--card", metavar="FILE", help="model card, Markdown (default: that of known weights)")
    export.add_argument("--base", metavar="FILE", help="checkpoint of the codec that the family is built on")
    export.add_argument("--arch", metavar="NAME", help="architecture of an imported checkpoint")
    export.add_argument(
        "--weights-key", metavar="KEY", help="which weights of an imported checkpoint that has several sets (`ema`)"
    )
    export.add_argument(
        "--calibrate",
        nargs="+",
        default=[],
        metavar="PICTURE",
        help="compare the bundle with its checkpoint on these (default: on a made picture), and calibrate an imported "
        "codec's integers with them",
    )
    export.add_argument("--variant", "--width", metavar="NAME", help="only this variant (default: all)")
    export.add_argument("--decoder-only", action="store_true", help="leave out what only encoding needs")
    export.add_argument("--float16", action="store_true", help="compute pixels in float16: for GPUs")


def _add_pack(commands: Commands) -> None:
    pack = commands.add_parser("pack", help="a codec bundle in one file, to ship and to load from memory")
    pack.add_argument("bundle", metavar="BUNDLE")
    pack.add_argument("output", metavar="FILE.nicb")
    _add_no_clobber(pack)


def _add_build(commands: Commands) -> None:
    build = commands.add_parser(
        "build",
        help="compile a bundle's graphs for NVIDIA GPUs (needs the `tensorrt` extra)",
        description="Build TensorRT engines of every graph that decoding runs: nicrt build BUNDLE --backend tensorrt. "
        "With TensorRT-RTX that needs no GPU. $NICRT_ENGINES names the folder that decoding looks in.",
    )
    build.add_argument("bundle", metavar="BUNDLE")
    build.add_argument("--backend", choices=("tensorrt",), default="tensorrt", help="what to build for")
    build.add_argument(
        "-o", "--output", metavar="FOLDER", help="where to write engines (default: where decoding looks)"
    )
    _add_no_clobber(build)
    for name, text in (("min", "smallest"), ("opt", "usual"), ("max", "largest")):
        build.add_argument(f"--{name}-shapes", type=_size, metavar="WxH", help=f"{text} picture")
    build.add_argument("--batch", type=_number(1, 1024, int), default=1, help="pictures at a time (default: 1)")
    build.add_argument("--encoder", action="store_true", help="also the graphs that only encoding runs")
    build.add_argument("--check", action="store_true", help="run each engine on this machine's GPU against the CPU")
    build.add_argument("--json", action="store_true")


def _add_lanes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--lanes",
        choices=("compact", "balanced", "parallel"),
        default="compact",
        help="fewest bytes (default) .. most parallel to decode",
    )


def _add_no_clobber(command: argparse._ActionsContainer) -> None:
    command.add_argument("--no-clobber", action="store_true", help="refuse outputs that exist (exit code 9)")


def _add_outputs(command: argparse.ArgumentParser) -> None:
    """What to do with outputs that exist."""
    existing = command.add_mutually_exclusive_group()
    _add_no_clobber(existing)
    existing.add_argument("--skip-existing", action="store_true", help="leave out inputs whose outputs exist")


def _add_work(command: argparse.ArgumentParser) -> None:
    command.add_argument("-b", "--bundle", help="codec bundle: a name (see `nicrt bundles`) or a path (./mine)")
    command.add_argument("--backend", default="auto", help="who runs the graphs (default: auto)")
    workers = _number(1, MAX_WORKERS, int)
    command.add_argument("--jobs", type=workers, default=1, help="files at a time (default: 1)")
    command.add_argument("--threads", type=workers, help="threads per file (default: processors / jobs)")
    command.add_argument("--quiet", action="store_true", help="only errors on standard error")
    _add_limits(command)


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", metavar="cuda[:N]", help="decode on an NVIDIA GPU (default: on the CPU)")


def _add_limits(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("limits")
    count = _number(1, 2**40, int)
    defaults = DEFAULT_LIMITS
    for flag, default, text in (
        ("--max-pixels", defaults.pixels, "pixels of a picture"),
        ("--max-memory", defaults.memory_bytes >> 20, "MiB that one picture may need, by estimate, and each graph"),
        ("--max-header", defaults.header_bytes, "bytes of a .nic header"),
        ("--max-stages", defaults.stages, "stages (layers) of a file"),
        ("--max-load-time", int(defaults.load_s), "seconds to load and prove a bundle's graphs"),
    ):
        group.add_argument(flag, type=count, default=default, metavar="N", help=f"{text} (default: {default})")
