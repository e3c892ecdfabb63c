"""Where tables are printed."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 120  # columns


def table_console(*, stderr: bool = False, highlight: bool = True) -> "Console":
    """As wide as the terminal, or as $COLUMNS says; in a pipe or a log 120 columns, where rich takes 80."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    fitting = stream.isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, highlight=highlight, width=None if fitting else WIDE)
