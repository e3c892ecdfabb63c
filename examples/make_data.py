"""Write the generated rows of the examples: tickets/tickets.jsonl and routing/messages.jsonl.

    python examples/make_data.py

All sentences (sentences.yaml), the handbook and its questions were written by hand; only how sentences are
combined is drawn here, from fixed seeds, so that the same files come out on every machine. The script also
checks that each handbook question names a section that exists and holds its answer.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
TICKETS_SEED, MESSAGES_SEED = 20261134, 20250115
TICKETS = 320
MESSAGES = 480
OPTIONAL = 0.25  # share of the [optional] texts that are kept

GREETED = 0.2  # shares of the mails: with a greeting, with a further detail, with the hurt, before the cause
DETAILED = 0.15
EFFECT = 0.35
EFFECT_FIRST = 0.2


class Deck:
    """Draws every text once, in random order, before any comes again."""

    def __init__(self, rng: random.Random, texts: Sequence[str]) -> None:
        self.rng, self.texts = rng, list(texts)
        self.left: list[str] = []

    def draw(self) -> str:
        if not self.left:
            self.left = self.rng.sample(self.texts, len(self.texts))
        return self.left.pop()


class Filler:
    """Keeps or drops [text], replaces {a|b} by one of the two and {word} by what is given or a draw."""

    def __init__(self, rng: random.Random, slots: Mapping[str, Sequence[Any]]) -> None:
        self.rng, self.slots = rng, slots

    def fill(self, text: str, **given: str) -> str:
        rng = self.rng
        text = re.sub(r"\[([^\]]*)\]", lambda m: m[1] if rng.random() < OPTIONAL else "", text)
        text = re.sub(r"\{([^{}]*\|[^{}]*)\}", lambda m: rng.choice(m[1].split("|")), text)
        return re.sub(r"\{(\w+)\}", lambda m: given.get(m[1]) or self.draw(m[1]), text)

    def draw(self, slot: str) -> str:
        values = self.slots[slot]
        between = len(values) == 2 and all(isinstance(value, int) for value in values)
        return str(self.rng.randint(*values) if between else self.rng.choice(values))


def tickets(rng: random.Random, said: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Mails to the support desk of a maker of scanners, scales and printers, and the JSON they become.

    The product is copied, the customer number gets the house's prefix, and the desk says what the mail is
    about (LOG, BIL, FIX, USE). All are drawn independently, as is the job that signs, so that a mail with
    the same wording in one of them says nothing about the others.
    """
    filler = Filler(rng, said["slots"])
    topics, levels, roles = said["topics"], said["levels"], said["roles"]
    kinds = [(t, p, k, r) for t in topics for p in said["products"] for k in levels for r in roles]
    products = {line: Deck(rng, nouns) for line, nouns in said["products"].items()}
    problems = {topic: Deck(rng, texts) for topic, texts in topics.items()}
    details = {topic: Deck(rng, texts) for topic, texts in said["details"].items()}
    jobs = {role: Deck(rng, texts) for role, texts in roles.items()}
    effects = {
        (topic, level): Deck(rng, texts["any"] + texts["goods" if topic in ("LOG", "FIX") else "office"])
        for topic in topics
        for level, texts in levels.items()
    }
    customers = rng.sample(range(10000, 100000), TICKETS)
    for row, customer in enumerate(customers):
        if row % len(kinds) == 0:
            rng.shuffle(kinds)
        topic, line, level, role = kinds[row % len(kinds)]
        product, job = products[line].draw(), jobs[role].draw()
        problem = filler.fill(problems[topic].draw(), d=product)
        if rng.random() < DETAILED:
            problem = with_detail(problem, filler.fill(details[topic].draw()))
        body = problem
        if rng.random() < EFFECT:
            effect = filler.fill(effects[topic, level].draw())
            body = f"{effect} {problem}" if rng.random() < EFFECT_FIRST else f"{problem} {effect}"
        if rng.random() < GREETED:
            body = f"{rng.choice(said['greetings'])} {body}"
        sign = rng.choice(said["signatures"]).format(job=job, n=customer)
        wanted = {"cust": f"C-{customer}", "item": product, "desk": topic}
        yield {"input": f"{body} {sign[0].upper()}{sign[1:]}", "output": wanted}


def with_detail(problem: str, detail: str) -> str:
    """The detail after the problem, unless it comes back to something the problem has already named."""
    named = set(re.findall(r"[a-z]{5,}", problem.lower()))
    return problem if named & set(re.findall(r"[a-z]{5,}", detail.lower())) else f"{problem} {detail}"


def messages(rng: random.Random, said: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Short messages to a city's service desk, no two alike, each with the queue that takes care of it."""
    filler = Filler(rng, said["slots"])
    decks = {queue: Deck(rng, texts) for queue, texts in said["queues"].items()}
    streets = Deck(rng, said["streets"])
    queues = list(decks) * (MESSAGES // len(decks))
    rng.shuffle(queues)
    seen = {""}
    for queue in queues:
        text = ""
        while text in seen:
            text = filler.fill(decks[queue].draw(), street=streets.draw())
        seen.add(text)
        yield {"input": text, "output": queue}


def check_handbook(folder: Path) -> int:
    """Every question's passage exists and holds the answer word for word; returns how many questions."""
    sections: dict[str, str] = {}
    for file in sorted((folder / "handbook").glob("*.md")):
        for block in re.split(r"^## ", file.read_text("utf-8"), flags=re.MULTILINE)[1:]:
            heading, text = block.split("\n", 1)
            slug = heading.strip().lower().replace(" ", "-")
            sections[f"{file.name}#{slug}"] = " ".join(text.lower().split())
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text("utf-8").splitlines()]
    for number, row in enumerate(rows, 1):
        if row["passage"] not in sections:
            raise SystemExit(f"questions.jsonl, line {number}: there is no section {row['passage']}")
        if row["output"].lower() not in sections[row["passage"]]:
            raise SystemExit(f"questions.jsonl, line {number}: {row['output']!r} is not in {row['passage']}")
    if unasked := set(sections) - {row["passage"] for row in rows}:
        raise SystemExit(f"no question asks about {sorted(unasked)}")
    return len(rows)


def sentences(name: str) -> Mapping[str, Any]:
    """The hand-written part of an example."""
    said: Mapping[str, Any] = yaml.safe_load((HERE / name / "sentences.yaml").read_text("utf-8"))
    return said


def write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main(out: Path = HERE) -> None:
    """Write both files below ``out`` (folders tickets and routing must exist) and check the handbook."""
    write(out / "tickets" / "tickets.jsonl", tickets(random.Random(TICKETS_SEED), sentences("tickets")))
    write(out / "routing" / "messages.jsonl", messages(random.Random(MESSAGES_SEED), sentences("routing")))
    asked = check_handbook(HERE / "handbook")
    print(f"{TICKETS} mails and {MESSAGES} messages written, {asked} handbook questions checked")


if __name__ == "__main__":
    main()
