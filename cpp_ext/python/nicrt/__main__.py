"""`python -m nicrt` and the `nicrt` command."""

import signal
import sys


def main() -> int:
    """Run the command line of this process; returns the exit code."""
    # Until the command handles signals itself, Ctrl-C shall end the process, not raise an exception inside an import.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from nicrt.runtime.cli.process import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
