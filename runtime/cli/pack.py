"""`nicrt pack`: a bundle in one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ImageError
from ..whole_files import write_file
from .report import printable


def run(options: argparse.Namespace) -> int:
    from ..installed import check_packed_target, open_bundle

    out = Path(options.output)
    check_packed_target(out)
    bundle = open_bundle(options.bundle)
    if out.exists() and bundle.path is not None and out.samefile(bundle.path):
        raise ImageError(f"cannot write {out}: it is the bundle to pack")
    data = bundle.packed()
    try:
        write_file(out, data, replace=not options.no_clobber)
    except OSError as error:
        raise ImageError(f"cannot write {out}: {error.strerror or error}") from None
    print(printable(f"{out}: {bundle.manifest.name}, {len(data)} bytes"))
    return 0
