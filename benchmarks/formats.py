"""Format checks against a peer in the same run, and agreement with stored marks.

    python benchmarks/formats.py [--data FOLDER] [--outputs 10000] [--rounds 3]

Speed: one schema, many outputs, scored by the metric ``json_schema`` (parse strictly, validate, say why,
count required fields) and by a loop over a prebuilt ``jsonschema`` validator (json.loads and is_valid; and
the same with best_match for the reason, which the metric gives too). Best of ``--rounds``, taking turns.
Marks: with --data, the official test suite and json_schema_bench, with what differs and why; the rows that
differ are listed in ``tests/forms/json_schema_bench_known.json``, and a test holds the list against them.
"""

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from tunewise.errors import SettingError
from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.forms import OutputSpec
from tunewise.forms.json_schema import JsonSchema

KNOWN = Path(__file__).parents[1] / "tests/forms/json_schema_bench_known.json"
ORDER = {
    "type": "object",
    "properties": {
        "customer": {"type": "string", "pattern": "^C-[0-9]{5}$"},
        "desk": {"enum": ["LOG", "BIL", "FIX", "USE"]},
        "items": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string", "minLength": 1}, "count": {"type": "integer"}},
                "required": ["name", "count"],
            },
        },
        "urgent": {"type": "boolean"},
    },
    "required": ["customer", "desk", "items"],
    "additionalProperties": False,
}


def outputs(count: int) -> list[str]:
    """Answers of which about one in six breaks the schema and one in twelve is no JSON."""
    draw, made = random.Random(0), []
    for number in range(count):
        items = [{"name": f"part {k}", "count": k} for k in range(draw.randint(1, 4))]
        value: dict[str, Any] = {
            "customer": f"C-{number:05}",
            "desk": draw.choice(["LOG", "BIL", "FIX", "USE"]),
            "items": items,
        }
        if number % 6 == 0:
            value["desk"] = "NONE"
        text = json.dumps(value)
        made.append("Sure! " + text if number % 12 == 1 else text)
    return made


def best_of(rounds: int, works: Sequence[Callable[[], int]]) -> list[tuple[float, float, int]]:
    """For each: seconds of its quickest run by the clock, by the processor, and what it counted."""
    found = [(float("inf"), float("inf"), 0) for _ in works]
    for _ in range(rounds):
        for place, work in enumerate(works):
            started, worked = time.perf_counter(), time.process_time()
            counted = work()
            took, busy = time.perf_counter() - started, time.process_time() - worked
            found[place] = min(found[place][0], took), min(found[place][1], busy), counted
    return found


def speed(count: int, rounds: int) -> None:
    """Print seconds and ratios of the metric and of the loops over a prebuilt validator."""
    texts = outputs(count)
    validator = Draft202012Validator(ORDER)
    context = MetricContext(output=OutputSpec(json_schema=JsonSchema(ORDER)))
    score = METRICS["json_schema"].score

    def ours() -> int:
        return sum(score(text, (), context).value == 1 for text in texts)

    def peer(reason: bool) -> int:
        met = 0
        for text in texts:
            try:
                value = json.loads(text)
            except json.JSONDecodeError:
                continue
            if reason:
                met += best_match(validator.iter_errors(value)) is None
            else:
                met += validator.is_valid(value)
        return met

    found = best_of(rounds, [ours, lambda: peer(False), lambda: peer(True)])
    (seconds, busy, met), *_ = found
    assert len({counted for _, _, counted in found}) == 1
    print(f"{count:,} outputs against one schema, {met:,} meet it: seconds by the clock and by the processor")
    names = ("metric json_schema", "jsonschema, is_valid", "jsonschema, best_match")
    for name, (clock, processor, _) in zip(names, found, strict=True):
        ratios = f"ours takes {seconds / clock:.2f} and {busy / processor:.2f} of it"
        print(f"  {name:22} {clock:6.2f} {processor:6.2f}   {ratios}")


def marks(data: Path) -> None:
    """Print the agreement with the official suite and with json_schema_bench."""
    suite: Counter[str] = Counter()
    for line in (data / "json_schema_test_suite/draft2020_12.jsonl").read_text(encoding="utf-8").splitlines():
        test = json.loads(line)
        try:
            same = JsonSchema(test["schema"]).meets(test["data"]) == test["valid"]
        except SettingError:
            suite["needs another document"] += 1
            continue
        suite["agrees" if same else "differs"] += 1
    print(f"official suite, draft 2020-12: {dict(suite)}")
    stored: Counter[str] = Counter()
    for line in (data / "json_schema_bench/schemas_with_instances.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        stored.update(_marks(row["schema"], row["tests"]))
    print(f"json_schema_bench: {dict(stored)}")
    known = json.loads(KNOWN.read_text(encoding="utf-8"))
    listed = {cause: sum(map(len, part["tests"].values())) for cause, part in known.items()}
    print(f"listed as known, by cause: {listed}")


def _marks(schema: Any, tests: Sequence[dict[str, Any]]) -> list[str]:
    try:
        plain = JsonSchema(schema)
    except SettingError:
        return ["schema refused"] * len(tests)
    differ = [test for test in tests if plain.meets(test["data"]) != test["valid"]]
    agree = ["agrees"] * (len(tests) - len(differ))
    if not differ:
        return agree
    try:
        asserted = JsonSchema(schema, assert_format=True)
    except SettingError:
        return agree + ["a format that cannot be asserted"] * len(differ)
    met = [asserted.meets(test["data"]) == test["valid"] for test in differ]
    return agree + ["agrees where format is asserted" if same else "differs" for same in met]


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with json_schema_test_suite and json_schema_bench")
    parser.add_argument("--outputs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    speed(options.outputs, options.rounds)
    if options.data is not None:
        marks(options.data)


if __name__ == "__main__":
    main()
