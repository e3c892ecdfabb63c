"""General text: how well the model predicts running prose, in bits per byte (lower is better).

A file: plain text, e.g. a public-domain book, or rows {"text": "..."}. It is cut at paragraph ends into
passages of about 2,000 characters, each read by itself after the tokenizer's start token. Bits per byte do
not depend on the tokenizer; perplexity per token does and stands beside it.
"""

from collections.abc import Iterator, Sequence

from tunewise.benchmarks.item import Benchmark, Files, Item, Row
from tunewise.benchmarks.tasks.rows import field

PASSAGE = 2000


def passages(text: str, longest: int = PASSAGE) -> Iterator[str]:
    """Paragraphs joined up to ``longest`` characters; a longer paragraph stands alone, cut at spaces."""
    held = ""
    for paragraph in (part.strip() for part in text.replace("\r\n", "\n").split("\n\n")):
        while len(paragraph) > longest:
            cut = paragraph.rfind(" ", 0, longest)
            cut = cut if cut > 0 else longest
            if held:
                yield held
                held = ""
            yield paragraph[:cut]
            paragraph = paragraph[cut:].strip()
        if held and len(held) + len(paragraph) + 2 > longest:
            yield held
            held = ""
        held = f"{held}\n\n{paragraph}".strip()
    if held:
        yield held


def read(rows: Sequence[Row], shots: Sequence[Row]) -> list[Item]:
    """One item per passage, without a context."""
    whole = [passage for row in rows for passage in passages(field(row, "text", str))]
    return [Item(str(number), "", (passage,)) for number, passage in enumerate(whole)]


BENCHMARK = Benchmark(
    name="text",
    about="running prose, in bits per byte",
    kind="text",
    main="bits_per_byte",
    files=Files(("text/*.txt", "text/*.jsonl", "corpus_books/*.txt", "*.txt")),
    read=read,
)
