"""The ``neural-cleanse`` command, within the interpreter."""

import sys

from . import _native

# How the command starts others of itself; these, too, look for nothing in the current directory.
PROGRAM = [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), "-m", "neural_cleanse"]


def main() -> int:
    """Run the command with the arguments of this process.

    Returns
    -------
    int
        Its exit status.
    """
    return _native.run_command(PROGRAM, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
