"""``python:module:function``: a metric of the user's own, run where a hang can be cut."""

import atexit
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tunewise.errors import SettingError
from tunewise.evidence.metrics.metric import Metric, MetricContext
from tunewise.evidence.records import Kind, Score
from tunewise.task_metric import OwnOptions

START_SECONDS = 120.0  # for importing the module, which may load large libraries
ENDED = None  # what the reader puts when the process has closed its output


def own_metric(name: str, options: OwnOptions) -> Metric:
    """The metric that ``python:module:function`` names.

    The function gets (output, references) or (output, references, input) and gives a number in [0, 1], true
    or false, or a mapping with ``value`` and further figures. It runs in a process of its own, whose import
    path begins with the task file's folder. A crash, another value, or more than ``seconds`` for one answer
    is an ``errored`` outcome, never a zero; after a hang the process is ended and a new one started.
    ``score`` raises SettingError when module or function cannot be loaded.
    """
    scored = partial(_score, name, options.seconds, options.kind)
    return Metric(name, options.kind, scored, needs_reference=False, beyond=("",))


def _score(
    name: str, seconds: float, kind: Kind, answer: str, references: Sequence[Any], context: MetricContext
) -> Score:
    said = worker_of(name, str(context.folder or Path())).ask(
        {"output": answer, "references": list(references), "input": context.input}, seconds
    )
    if "error" in said:
        return Score("errored", None, {"why": f"{name}: {said['error']}"})
    value, detail = said["value"], said["detail"]
    ranged = isinstance(value, float) and 0 <= value <= 1
    if not ranged or (kind == "binary" and value not in (0.0, 1.0)):
        wanted = "0 or 1" if kind == "binary" else "a number in [0, 1]"
        got = value.get("type", "nothing") if isinstance(value, dict) else repr(value)
        return Score("errored", None, {"why": f"{name}: {wanted} was expected, got {got}"})
    kept = {key: v for key, v in detail.items() if isinstance(v, str) or _finite(v)}
    return Score("scored", value, kept)


def _finite(value: Any) -> bool:
    return isinstance(value, float) and abs(value) < float("inf")


@lru_cache(maxsize=8)
def worker_of(name: str, folder: str) -> "Worker":
    """The one process for this function. Raises SettingError when the function cannot be loaded."""
    worker = Worker(name, folder)
    atexit.register(worker.end)
    worker.start()
    return worker


class Worker:
    """A process that runs one function, started again after it was ended. Used by any thread."""

    def __init__(self, name: str, folder: str) -> None:
        _, self._module, self._function = name.split(":")
        self._name = name
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process and wait until it has found the function. Raises SettingError when it cannot."""
        command = [sys.executable, "-P", str(Path(__file__).with_name("own_worker.py"))]
        path = os.pathsep.join(part for part in sys.path if part)
        self._process = subprocess.Popen(
            [*command, self._folder, self._module, self._function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="ascii",
            env={**os.environ, "PYTHONPATH": path},
        )
        self._lines = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()
        said = self._next(START_SECONDS)
        if "ready" not in said:
            self.end()
            why = said.get("cannot") or said.get("error")
            raise SettingError(
                f"metric {self._name} cannot be loaded: {why}. Its module is looked for in {self._folder} and"
                " then where Python looks; the function takes (output, references)"
            )

    def ask(self, call: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """What the function says: ``value`` and ``detail``, or ``error``."""
        with self._lock:
            if self._process is None:
                self.start()
            assert self._process is not None
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps(call, ensure_ascii=True, default=str) + "\n")
                self._process.stdin.flush()
            except OSError:
                self.end()
                return {"error": "its process ended before it was asked"}
            said = self._next(seconds)
            if "ended" in said:
                self.end()
            return said

    def _next(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return {"error": f"no answer within {seconds:g} s", "ended": True}
        if line is ENDED:
            return {"error": "its process ended without an answer", "ended": True}
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        """End the process, if one runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdin is not None:
            try:
                process.stdin.close()
            except OSError:  # what was still to be written has no reader any more
                return


def _read(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
    assert process.stdout is not None
    with process.stdout as out:
        for line in out:
            lines.put(line)
    lines.put(ENDED)
