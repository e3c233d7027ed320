"""`nicrt export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ImageError, UnsupportedError, one_line
from .files import regular_file


def run(options: argparse.Namespace) -> int:
    for path in filter(None, (options.checkpoint, options.base, options.card, *options.calibrate)):
        regular_file(path)
    if options.no_clobber and Path(options.output).exists():
        raise ImageError(f"cannot write {options.output}: it exists")
    try:
        from nicrt.export.bundle import check_output
        from nicrt.export.cli import export_family
    except ImportError as error:
        raise UnsupportedError(f"exporting needs PyTorch: pip install 'nicrt[export]' ({one_line(error)})") from None
    check_output(Path(options.output), packed=options.pack)  # before the work, which may take minutes
    export_family(
        options.family,
        Path(options.checkpoint),
        Path(options.output),
        base=Path(options.base) if options.base else None,
        arch=options.arch,
        calibrate=[Path(path) for path in options.calibrate],
        weights_key=options.weights_key,
        variant=options.variant,
        decoder_only=options.decoder_only,
        float16=options.float16,
        card=Path(options.card) if options.card else None,
        packed=options.pack,
        report=print,
    )
    return 0
