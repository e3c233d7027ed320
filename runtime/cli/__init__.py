"""The `nicrt` command. Heavy modules are imported by the command that needs them: start-up time is latency too."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from nicrt import __version__

from ..errors import NicrtError
from .options import EXIT_USAGE, parser

EXIT_INTERRUPTED = 130
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
    elif options.command == "export":
        from .export import run
    else:
        from .inspect import run
    return run(options)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # on odd metadata, and on sizes, which have a limit of ours
    grammar = parser()
    options = grammar.parse_args(argv)
    if options.version:
        print(f"nicrt {__version__}")
        return 0
    if options.command is None:
        grammar.print_help()
        return EXIT_USAGE
    try:
        return _dispatch(options)
    except NicrtError as error:
        print(f"nicrt: {error}", file=sys.stderr)
        return error.exit_code
    except ValueError as error:
        print(f"nicrt: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # who reads our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
