"""Progress of a climb: a live table at a terminal, plain lines elsewhere. All on standard error."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from tunewise.progress import Progress


def one_line(text: str) -> str:
    """A text for a line of the terminal: control characters and half surrogate pairs stand as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@contextmanager
def progress_for(stream: TextIO) -> Iterator[Progress]:
    """A live table when the stream is a terminal, plain lines otherwise."""
    if not stream.isatty():
        yield PlainLines(stream)
        return
    console = Console(file=stream)
    board = Board(console)
    with Live(board.table(), console=console, refresh_per_second=8, transient=True) as live:
        board.live = live
        yield board


class PlainLines:
    """One line per thing worth a line; building and measuring at most every few seconds."""

    def __init__(self, stream: TextIO, every_seconds: float = 5.0) -> None:
        self.stream = stream
        self.every_seconds = every_seconds
        self.last = -every_seconds

    def tell(self, event: str, **facts: Any) -> None:
        line = in_words(event, facts)
        if line is None:
            return
        passing = event in ("building", "training") or (event == "measuring" and not facts.get("verdict"))
        if passing:
            now = time.monotonic()
            if now - self.last < self.every_seconds:
                return
            self.last = now
        print(line, file=self.stream, flush=True)


class Board:
    """The live table: one row per rung, what is going on, what was spent."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None
        self.rows: dict[str, tuple[str, str]] = {}
        self.spent = ""

    def tell(self, event: str, **facts: Any) -> None:
        rung = facts.get("rung")
        if event in ("plan", "note"):
            self.console.print(escape(str(facts.get("text", ""))), style="dim")
        elif event == "spent":
            self.spent = spent_in_words(facts)
        elif rung:
            _, said = self.rows.get(rung, ("", ""))
            line = in_words(event, facts, named=False)
            self.rows[rung] = (facts.get("state") or event, line if line is not None else said)
        if self.live is not None:
            self.live.update(self.table())

    def table(self) -> Table:
        """The table as it stands."""
        table = Table(box=None, pad_edge=False, caption=self.spent, caption_justify="left")
        for heading in ("rung", "", "so far"):
            table.add_column(heading, style="bold" if heading == "rung" else None)
        for rung, (state, said) in self.rows.items():
            table.add_row(rung, state, escape(said))
        return table


def in_words(event: str, facts: dict[str, Any], named: bool = True) -> str | None:
    """One event as one line; None for events that are not worth one."""
    head = f"{facts['rung']}: " if named and facts.get("rung") else ""
    if event in ("plan", "note"):
        return str(facts.get("text", ""))
    if event == "rung":
        if facts.get("state") == "skipped":
            return f"{head}skipped: {facts.get('reason')}"
        if facts.get("state") == "done":
            return f"{head}{str(facts.get('verdict')).replace('_', ' ')}" if named else None
        return f"{head}{facts.get('state')}" if named else ""
    if event == "building":
        total = f"{facts['done']}/{facts['total']} " if facts.get("total") else ""
        return f"{head}{total}{facts.get('text', '')}"
    if event == "training":
        return f"{head}step {facts.get('step')}/{facts.get('steps')}{_training(facts)}"
    if event == "probing":
        return f"{head}{facts.get('done')} of up to {facts.get('most')} unbatched calls for the limits"
    if event == "measuring":
        return f"{head}{_measuring(facts)}"
    return None


def _training(facts: dict[str, Any]) -> str:
    said = ""
    if facts.get("loss") is not None:
        said += f", loss {facts['loss']:.3f}"
    if facts.get("tokens_per_second") is not None:
        said += f", {facts['tokens_per_second']:.0f} tokens/s"
    if facts.get("computed_tokens_per_second") is not None:
        said += f" ({facts['computed_tokens_per_second']:.0f} computed)"
    if facts.get("held_out_loss") is not None:
        said += f", held-out loss {facts['held_out_loss']:.3f}"
    if facts.get("memory_bytes") is not None:
        said += f", peak {facts['memory_bytes'] / 2**30:.2f} GiB"
    if facts.get("eta_seconds") is not None:
        said += f", {facts['eta_seconds']:.0f} s to go"
    return said


def _measuring(facts: dict[str, Any]) -> str:
    said = f"{facts.get('n')}/{facts.get('cap')} items"
    if facts.get("estimate") is not None:
        said += f", estimate {facts['estimate']:.3f}"
    if facts.get("low") is not None and facts.get("high") is not None:
        said += f" [{facts['low']:.3f}, {facts['high']:.3f}]"
    if facts.get("verdict"):
        said += f", {str(facts['verdict']).replace('_', ' ')}"
    return said


def spent_in_words(facts: dict[str, Any]) -> str:
    """What was spent so far in one line."""
    usd = facts.get("usd")
    money = "" if usd is None else f", {usd:.4f} USD"
    return f"spent: {facts.get('calls')} calls, {facts.get('seconds') or 0:.0f} s{money}"
