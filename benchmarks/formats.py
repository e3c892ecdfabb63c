"""Format checks against a peer in the same run, and agreement with stored marks.

    python benchmarks/formats.py [--data FOLDER] [--outputs 10000]

Speed: one schema, many outputs, scored by the metric ``json_schema`` (parse strictly, validate, say why,
count required fields) and by a loop over a prebuilt ``jsonschema`` validator (json.loads and is_valid; and
the same with best_match for the reason, which the metric gives too). Best of three.
Marks: with --data, the official test suite and json_schema_bench, with what differs and why.
"""

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from tunewise.errors import SettingError
from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.forms import OutputSpec
from tunewise.forms.json_schema import JsonSchema

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


def best_of_three(work: Callable[[], int]) -> tuple[float, int]:
    """Seconds of the quickest run, and what it counted."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        counted = work()
        times.append(time.perf_counter() - started)
    return min(times), counted


def speed(count: int) -> None:
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

    seconds, met = best_of_three(ours)
    plain, plain_met = best_of_three(lambda: peer(False))
    told, told_met = best_of_three(lambda: peer(True))
    assert met == plain_met == told_met
    print(f"{count:,} outputs against one schema, {met:,} meet it")
    print(f"  metric json_schema                 {seconds:6.2f} s")
    print(f"  jsonschema, is_valid               {plain:6.2f} s   ratio {seconds / plain:.2f}")
    print(f"  jsonschema, best_match             {told:6.2f} s   ratio {seconds / told:.2f}")


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
        for test in row["tests"]:
            stored[_mark(row["schema"], test)] += 1
    print(f"json_schema_bench: {dict(stored)}")


def _mark(schema: Any, test: dict[str, Any]) -> str:
    try:
        if JsonSchema(schema).meets(test["data"]) == test["valid"]:
            return "agrees"
        if JsonSchema(schema, assert_format=True).meets(test["data"]) == test["valid"]:
            return "agrees where format is asserted"
    except SettingError as wrong:
        return "a format that is not known" if "cannot be asserted" in str(wrong) else "schema refused"
    return "differs"


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with json_schema_test_suite and json_schema_bench")
    parser.add_argument("--outputs", type=int, default=10_000)
    options = parser.parse_args()
    speed(options.outputs)
    if options.data is not None:
        marks(options.data)


if __name__ == "__main__":
    main()
