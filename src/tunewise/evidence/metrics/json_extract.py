"""The JSON within an answer that is not JSON: cut out of prose and code fences, or mended."""

from collections.abc import Set

from tunewise.evidence.metrics.json_text import Found, NotStrictJson, cut_json, parse_strict, too_deep
from tunewise.forms.bounded import TookTooLong, bounded

MAX_FENCES = 5
MAX_REPAIRED = 20_000  # characters; a longer answer is not mended
MARKS = ("```", "~~~")
OPENINGS = {"object": "{", "array": "["}


def extracted(answer: str, kinds: Set[str]) -> Found | None:
    """The first JSON value within a code fence, else the first object or array within the text.

    kinds: JSON types that are looked for outside fences, as ``JsonSchema.top_types`` gives them.
    """
    for content in fenced(answer):
        try:
            return Found(parse_strict(content))
        except NotStrictJson:
            continue
    return cut_json(answer, "".join(OPENINGS[kind] for kind in sorted(kinds) if kind in OPENINGS))


def repaired(answer: str, kinds: Set[str]) -> Found | None:
    """The value that json-repair makes of the fenced content, else of the text; None where there is none.

    Nothing is made of a text without an opening bracket, of one longer than MAX_REPAIRED, or of one nested
    too deeply: the first would be a guess, the others take too long.
    """
    openings = "".join(OPENINGS[kind] for kind in kinds if kind in OPENINGS)
    text = next(iter(fenced(answer)), answer)
    starts = [place for sign in openings if (place := text.find(sign)) >= 0]
    if not starts or len(text) > MAX_REPAIRED or too_deep(text):
        return None
    try:
        return Found(parse_strict(bounded("repair", text[min(starts) :])))
    except (NotStrictJson, TookTooLong):
        return None


def fenced(answer: str) -> list[str]:
    """Contents of the first MAX_FENCES code fences; one that is never closed reaches to the end."""
    found: list[str] = []
    if "```" not in answer and "~~~" not in answer:
        return found
    mark, lines = "", list[str]()
    for line in answer.split("\n"):
        bare = line.strip()
        if not mark and bare[:3] in MARKS:
            mark, lines = bare[: len(bare) - len(bare.lstrip(bare[0]))], []
        elif mark and bare.startswith(mark) and not bare.strip(mark[0]):
            found.append("\n".join(lines))
            mark = ""
            if len(found) == MAX_FENCES:
                return found
        else:
            lines.append(line)
    return [*found, "\n".join(lines)] if mark else found
