"""`python -m nicrt.runtime.cli`: the `nicrt` command, where a checkout's runtime is to be named."""

import sys

from nicrt.__main__ import main

sys.exit(main())
