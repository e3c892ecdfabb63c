"""Raw documents as rows for continual pre-training: every token carries loss, no document sees another.

Documents are cut into pieces of at most ``length`` tokens. A piece is a row whose prompt is one token (the
model's own mark for the beginning of a text, else its end mark) and whose answer is all the rest, so that
packing, resuming and checkpoints are those of tuning. The end mark closes a document and is learnt with
it; a piece that is cut inside a document is not closed, since the text goes on.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.errors import DataError
from tunewise.retrieval.documents import Document
from tunewise.training.masks import TrainRow

HELD_OUT_SHARE = 0.05
SHORTEST_PIECE = 8  # tokens; a shorter rest of a document joins no row, and is counted as left over


@dataclass(frozen=True, slots=True)
class Corpus:
    """Pieces of documents.

    train, held_out: rows of whole documents; no document is in both, unless there is but one (not ``apart``).
    documents, words: in all of them. tokens: that carry loss, train and held out together. left_over: tokens
    of rests too short for a row.
    """

    train: tuple[TrainRow, ...]
    held_out: tuple[TrainRow, ...]
    documents: int
    words: int
    tokens: int
    left_over: int
    apart: bool = True

    @property
    def tokens_per_word(self) -> float | None:
        """Tokens that a word of the domain takes, on average; None without words. Above about 2 the
        vocabulary of the domain is strange to the tokenizer."""
        return self.tokens / self.words if self.words else None

    def facts(self) -> dict[str, Any]:
        """JSON-able figures for the report."""
        return {
            "documents": self.documents,
            "tokens": self.tokens,
            "train_tokens": loss_tokens(self.train),
            "held_out_tokens": loss_tokens(self.held_out),
            "left_over_tokens": self.left_over,
            "held_out_apart": self.apart,
            "tokens_per_word": self.tokens_per_word,
        }


def loss_tokens(rows: Iterable[TrainRow]) -> int:
    """Tokens of the rows that carry loss."""
    return sum(len(row.answer) for row in rows)


def corpus_of(
    documents: Sequence[Document], tokenizer: Any, length: int, most_tokens: int | None = None
) -> Corpus:
    """The documents as rows of at most ``length`` tokens, about 5 % of the documents held out.

    Which are held out follows from their content, so that more documents move none; of few documents, of
    which that takes none or all, the smallest is held out, of a single one its last piece. most_tokens: stop
    after the document with which the train rows carry so many loss tokens; None takes all. The same text
    twice is read once. Raises DataError when there is too little text to train on.
    """
    if length <= SHORTEST_PIECE:
        raise ValueError(f"length must be more than {SHORTEST_PIECE} tokens, got {length}")
    train: dict[str, list[TrainRow]] = {}  # by digest of the document
    held_out: dict[str, list[TrainRow]] = {}
    seen: set[str] = set()
    words = left_over = trained = 0
    for document in documents:
        text = f"{document.head}\n{document.text}" if document.head else document.text
        digest = hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()
        if digest in seen:
            continue
        if most_tokens is not None and trained >= most_tokens:
            break
        seen.add(digest)
        words += len(text.split())
        rows, rest = pieces(document.id, text.strip(), tokenizer, length)
        left_over += rest
        if not rows:
            continue
        if int(digest[:8], 16) / 2**32 < HELD_OUT_SHARE:
            held_out[digest] = rows
        else:
            train[digest] = rows
            trained += loss_tokens(rows)
    if not train and not held_out:
        raise DataError(
            f"{len(documents)} documents give no row of {SHORTEST_PIECE} tokens or more to train on; "
            "continual pre-training takes text by the hundred thousand tokens"
        )
    apart = one_apart(train, held_out)
    kept, away = ([row for rows in part.values() for row in rows] for part in (train, held_out))
    total = loss_tokens(kept) + loss_tokens(away)
    return Corpus(tuple(kept), tuple(away), len(seen), words, total, left_over, apart)


def one_apart(train: dict[str, list[TrainRow]], held_out: dict[str, list[TrainRow]]) -> bool:
    """Move documents so that some are trained on and one is held out; False where there is but one.

    Then its last piece is held out, if it has another: text of which the beginning was trained on.
    """
    if len(train) + len(held_out) == 1:
        [(digest, rows)] = (train or held_out).items()
        train[digest], held_out[digest] = rows[: max(1, len(rows) - 1)], rows[1:][-1:]
        return False
    if not held_out:
        smallest = min(train, key=lambda digest: (loss_tokens(train[digest]), digest))
        held_out[smallest] = train.pop(smallest)
    if not train:
        largest = max(held_out, key=lambda digest: (loss_tokens(held_out[digest]), digest))
        train[largest] = held_out.pop(largest)
    return True


def pieces(name: str, text: str, tokenizer: Any, length: int) -> tuple[list[TrainRow], int]:
    """The rows of one document, and how many tokens its last rest has when it is too short for a row."""
    first, end = marks(tokenizer)
    ids = [*tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], end]
    step = length - 1  # the mark that stands first takes one place
    cut = [ids[start : start + step] for start in range(0, len(ids), step)]
    rest = len(cut.pop()) if len(cut[-1]) < SHORTEST_PIECE else 0
    return [TrainRow(f"{name}#{n}", (first,), tuple(part)) for n, part in enumerate(cut)], rest


def marks(tokenizer: Any) -> tuple[int, int]:
    """Ids of the marks before and after a text. Raises DataError when the tokenizer has no end mark."""
    end = tokenizer.eos_token_id
    if end is None:
        raise DataError(
            "the model's tokenizer names no end mark (eos_token); without one documents run together"
        )
    first = tokenizer.bos_token_id
    return (end if first is None else first), end


def perplexity(loss: float | None) -> float | None:
    """exp of a mean loss in nats per token; None when it is unknown or not finite."""
    return math.exp(loss) if loss is not None and math.isfinite(loss) and loss < 700 else None
