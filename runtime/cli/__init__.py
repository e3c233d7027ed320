"""The `nicrt` command. Heavy modules are imported by the command that needs them: start-up time is latency too."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from nicrt import __version__

from ..errors import ImageError
from .files import reason
from .options import EXIT_USAGE, parser
from .report import explain, say_error

EXIT_BROKEN_PIPE = 141


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "encode":
        from .encode import run
    elif options.command == "decode":
        from .decode import run
    elif options.command == "bench":
        from .bench import run
    elif options.command == "evaluate":
        from .evaluate import run
    elif options.command == "build":
        from .build import run
    elif options.command == "pack":
        from .pack import run
    elif options.command == "export":
        from .export import run
    else:
        from .inspect import run
    return run(options)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Whatever fails is one line on standard error. Raises SystemExit
    where argparse does: after `--help`, and for a call that it refuses.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # on odd metadata, and on sizes, which have a limit of ours
    try:
        code = _run(argv)
    except SystemExit as ended:
        raise SystemExit(_flushed(int(ended.code or 0))) from None
    except BrokenPipeError:  # who reads our output has seen enough
        _forget_output()
        return EXIT_BROKEN_PIPE
    except Exception as error:
        text, code = explain(error, EXIT_USAGE)
        say_error(text)
    return _flushed(code)


def _run(argv: Sequence[str] | None) -> int:
    grammar = parser()
    options = grammar.parse_args(argv)
    if options.version:
        print(f"nicrt {__version__}")
        return 0
    if options.command is None:
        grammar.print_help()
        return EXIT_USAGE
    from nicrt import _core

    _core.check_isa_variable()
    return _dispatch(options)


def _flushed(code: int) -> int:
    """The exit code, once all that was printed is out."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        _forget_output()
        if code:  # something was said already
            return code
        say_error(f"cannot write standard output: {reason(error)}")
        return ImageError.exit_code
    return code


def _forget_output() -> None:
    """Python would try to write the rest again when it ends."""
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for the life of the process
