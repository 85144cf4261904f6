"""``python -m vidmatte`` and the ``vidmatte`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    from vidmatte.heap import share_heap

    share_heap()
    from vidmatte.cli.main import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
