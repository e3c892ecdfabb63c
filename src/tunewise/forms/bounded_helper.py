"""The helper process of ``bounded``: a line of JSON [work, arguments...] in, a line {"done": result} out.

Run as a file, so that it starts without the rest of the package.
"""

import json
import re
import sys
from collections.abc import Callable
from typing import Any

RECURSION = 5_000  # frames; the parsers here recurse in Python alone, which takes no C stack


def search(pattern: str, text: str) -> bool:
    """Whether the pattern matches somewhere in the text, by Python's ``re``."""
    return re.search(pattern, text) is not None


def repair(text: str) -> str:
    """The text as JSON after json-repair; "" where it finds none."""
    from json_repair import repair_json

    return str(repair_json(text, ensure_ascii=True))


def sql(text: str, dialect: str) -> str | None:
    """None where every statement parses in the dialect of sqlglot, else what is wrong and where."""
    import sqlglot

    try:
        parsed = sqlglot.parse(text, read=dialect)
    except sqlglot.errors.ParseError as wrong:
        first = wrong.errors[0] if wrong.errors else {}
        place = f"line {first.get('line')}, column {first.get('col')}: " if first.get("line") else ""
        return f"{place}{first.get('description') or wrong}"
    except sqlglot.errors.SqlglotError as wrong:
        return str(wrong)
    except RecursionError:
        return "nested too deeply"
    if not any(parsed):
        return "there is no statement"
    from sqlglot import expressions as kinds

    for number, one in enumerate((one for one in parsed if one is not None), 1):
        if isinstance(one, kinds.Condition | kinds.Alias | kinds.Tuple | kinds.Identifier | kinds.Table):
            return f"statement {number} is no statement but an expression"
        if isinstance(one, kinds.Command):
            return f"statement {number} is known only by its first word ({one.this}), not parsed"
    return None


WORK: dict[str, Callable[..., Any]] = {"search": search, "repair": repair, "sql": sql}


def _limit_memory(size: int) -> None:
    try:
        import resource
    except ImportError:  # a system without such limits
        return
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def main() -> None:
    """Answer lines until the input ends."""
    _limit_memory(int(sys.argv[1]))
    sys.setrecursionlimit(RECURSION)
    print("{}", flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        reply: dict[str, Any]
        try:
            reply = {"done": WORK[name](*arguments)}
        except (RecursionError, MemoryError, ValueError, TypeError, LookupError, AttributeError) as wrong:
            reply = {"failed": type(wrong).__name__}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
