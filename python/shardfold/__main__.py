"""The command: `shardfold …`, and `python -m shardfold …`."""

import signal
import sys

from shardfold._shardfold import run


def main() -> None:
    """Runs the command with the arguments of this process and ends it with the command's exit code."""
    # Signals are the command's own business: Python would answer the first with a KeyboardInterrupt at the very end.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
