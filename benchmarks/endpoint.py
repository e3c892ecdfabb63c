"""Requests per second at an endpoint: tunewise with its store, against inspect_ai, side by side in one run.

    python benchmarks/endpoint.py [--peer-python PATH] [--requests 2000] [--concurrency 64] [--json]

A mock endpoint in its own process answers after a fixed latency. Per latency, both ask the same prompts at
the same concurrency, one after the other, in alternating order over the rounds; the medians are compared.
Ideal is concurrency / latency. tunewise's time runs from the first request to the return of ``Runner.ask``,
every answer committed to the store. The peer's better way counts (`endpoint_peer.py`).
Bounds: at 500 ms at least 85 % of the ideal rate, and ahead of the peer. Exit status 1 when one is missed.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tunewise.data import Message
from tunewise.evidence.runner import Runner
from tunewise.models.door import Decoding, Request
from tunewise.models.endpoint import EndpointDoor
from tunewise.models.mock_server import running_mock
from tunewise.progress import Silent
from tunewise.spending import Spending
from tunewise.store import Store
from tunewise.task import EndpointSpec

IDEAL_SHARE_AT_LEAST = 0.85
WORDS = 60


def ours(url: str, requests: int, concurrency: int) -> float:
    """Seconds of ``Runner.ask`` for all prompts, into a fresh store."""
    prompts = [
        Request((Message("user", f"Prompt {number}: " + "word " * WORDS),), Decoding())
        for number in range(requests)
    ]
    door = EndpointDoor(EndpointSpec(endpoint=url, name="mock", concurrency=concurrency))
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder, "run.sqlite"), {}) as store:
        runner = Runner(store, Spending(None, None, store.spent()), Silent())
        started = time.perf_counter()
        answers = runner.ask(door, prompts, purpose="benchmark", rung="none")
        seconds = time.perf_counter() - started
        assert [answer.status for answer in answers] == ["ok"] * requests
        assert store.spent().calls == requests
        runner.close()
    door.close()
    return seconds


def peers(python: str, url: str, requests: int, concurrency: int) -> dict[str, Any]:
    """Seconds of each of the peer's ways, in its own process; start-up and imports are not counted."""
    script = Path(__file__).with_name("endpoint_peer.py")
    command = [python, str(script), url, str(requests), str(concurrency), str(WORDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        sys.exit(f"the peer failed (it needs: pip install inspect-ai openai):\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compare(chosen: argparse.Namespace, latency_ms: float) -> dict[str, Any]:
    """All rounds at one latency."""
    count, concurrency = chosen.requests, chosen.concurrency
    our_seconds: list[float] = []
    peer_seconds: dict[str, list[float]] = {"generate": [], "eval": []}
    version = ""
    with running_mock(latency_ms=latency_ms) as url:
        for number in range(chosen.rounds):
            for side in ("ours", "peer") if number % 2 == 0 else ("peer", "ours"):
                if side == "ours":
                    our_seconds.append(ours(url, count, concurrency))
                    continue
                found = peers(chosen.peer_python, url, count, concurrency)
                version = found["version"]
                for way, seconds in found["seconds"].items():
                    peer_seconds[way].append(seconds)
    ideal = concurrency / latency_ms * 1000
    rates = {"tunewise": count / statistics.median(our_seconds)}
    rates |= {f"inspect_ai {way}": count / statistics.median(s) for way, s in peer_seconds.items()}
    best_peer = max(rate for name, rate in rates.items() if name != "tunewise")
    return {
        "latency_ms": latency_ms,
        "ideal_per_s": ideal,
        "per_s": rates,
        "share_of_ideal": {name: rate / ideal for name, rate in rates.items()},
        "ratio_to_peer": rates["tunewise"] / best_peer,
        "seconds": {"tunewise": our_seconds, **peer_seconds},
        "peer_version": version,
    }


def table(result: dict[str, Any]) -> str:
    """One latency, as lines of text."""
    lines = [f"latency {result['latency_ms']:g} ms, ideal {result['ideal_per_s']:.0f} requests/s"]
    for name, rate in result["per_s"].items():
        lines.append(f"  {name:<20} {rate:8.1f} requests/s  {result['share_of_ideal'][name]:6.1%} of ideal")
    lines.append(f"  {'ratio to the peer':<20} {result['ratio_to_peer']:8.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has inspect_ai")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[500.0, 50.0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    chosen = parser.parse_args()
    results = [compare(chosen, latency_ms) for latency_ms in chosen.latency_ms]
    missed = [
        f"at {result['latency_ms']:g} ms"
        for result in results
        if result["latency_ms"] >= 500
        and (result["share_of_ideal"]["tunewise"] < IDEAL_SHARE_AT_LEAST or result["ratio_to_peer"] <= 1)
    ]
    if chosen.json:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        print(json.dumps({"results": results, "bounds_missed": missed, **machine}, indent=2))
    else:
        print("\n".join(table(result) for result in results))
        print(f"bounds: {'missed ' + ', '.join(missed) if missed else 'held'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
