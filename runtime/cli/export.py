"""`nicrt export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UnsupportedError


def run(options: argparse.Namespace) -> int:
    try:
        from nicrt.export.cli import export_family
    except ImportError as error:
        raise UnsupportedError(f"exporting needs PyTorch: pip install 'nicrt[export]' ({error})") from None
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
        report=print,
    )
    return 0
