"""Continuations to score as trees of tokens, so that nothing two of them share is read twice.

The endings of a multiple-choice item begin with the same context; the items of a few-shot benchmark begin
with the same examples. Written as

    prefix of the group | stem of the item | rest of ending 1 | rest of ending 2 | ...

with positions that restart after the stem, and attention from each rest to prefix, stem and itself, a causal
transformer computes for every ending what it computes for the ending alone. What is shared is found in the
tokens of whole prompts, never by tokenising a beginning alone: a tokenizer may cut it otherwise there.

No torch here: this file only decides what is read in which pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

FILLER = -1
WORTH_SAVING = 256  # tokens a shared prefix must save in all before it gets a pass of its own
SHORTEST_PREFIX = 8  # attention to a prefix has a cost of its own
OPEN_BINS = 24
ROUNDED = 32  # oneDNN keeps code and buffers for every shape it meets


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the model about one item: the log-probability of some continuations.

    sequences: token ids of context and continuation together, one per continuation, at least two tokens each.
    firsts: place of the first scored token in each, at least 1. group: items with the same name are expected
    to begin alike (the examples of a few-shot prompt); None: alone.
    """

    sequences: tuple[tuple[int, ...], ...]
    firsts: tuple[int, ...]
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Tree:
    """One question laid out after a prefix that was read before. Lists without remark are one per token.

    segments: 0 for the stem, k for the rest of sequence k - 1. asked: (place, target id, sequence) of each
    scored token, the place being that of the token that predicts it.
    """

    question: int
    ids: list[int]
    positions: list[int]
    segments: list[int]
    asked: list[tuple[int, int, int]]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True)
class Pack:
    """Trees that are read in one pass, one after the other."""

    trees: list[Tree] = field(default_factory=list)
    tokens: int = 0
    asked: int = 0

    def takes(self, tree: Tree, tokens: int, asked: int) -> bool:
        """True when the tree fits into a pass of so many tokens and scored places; the first always does."""
        return not self.trees or (self.tokens + len(tree) <= tokens and self.asked + len(tree.asked) <= asked)

    def add(self, tree: Tree) -> None:
        """Put a tree at the end."""
        self.trees.append(tree)
        self.tokens += len(tree)
        self.asked += len(tree.asked)


@dataclass(frozen=True, slots=True)
class Stage:
    """A prefix, read once (empty: none), and the packs that are read after it."""

    prefix: tuple[int, ...]
    packs: list[Pack]


def common_length(sequences: Sequence[tuple[int, ...]]) -> int:
    """Length of the longest start that all sequences share; the length of the only one."""
    low, high = min(sequences), max(sequences)  # in lexicographic order these two differ first
    length = 0
    for one, other in zip(low, high, strict=False):
        if one != other:
            break
        length += 1
    return length


def tree_of(number: int, question: Question, skip: int = 0) -> Tree:
    """The question as one sequence, without its first ``skip`` tokens, which a prefix holds.

    ``skip`` is less than every ``first``, so that what predicts a scored token is always in the tree. The
    last token of a sequence is never read: nothing comes after it.
    """
    read = [sequence[:-1] for sequence in question.sequences]
    stem = common_length(read)
    tree = Tree(number, list(read[0][skip:stem]), list(range(skip, stem)), [0] * (stem - skip), [])
    for which, (sequence, first) in enumerate(zip(question.sequences, question.firsts, strict=True)):
        shift = len(tree) - stem  # from a place in this sequence, after the stem, to its place in the tree
        tree.asked.extend(
            (place - skip if place < stem else place + shift, sequence[place + 1], which)
            for place in range(first - 1, len(sequence) - 1)
        )
        rest = range(stem, len(sequence) - 1)
        tree.ids.extend(sequence[place] for place in rest)
        tree.positions.extend(rest)
        tree.segments.extend([which + 1] * len(rest))
    return tree


def shared_prefix(questions: Sequence[Question]) -> tuple[int, ...]:
    """The start that all questions share, short of what predicts a scored token; empty if not worth it."""
    every = [sequence for question in questions for sequence in question.sequences]
    length = min(common_length(every), min(min(question.firsts) for question in questions) - 1)
    saved = (len(questions) - 1) * length
    return every[0][:length] if length >= SHORTEST_PREFIX and saved >= WORTH_SAVING else ()


def stages(questions: Sequence[Question], tokens: int, asked: int) -> Iterator[Stage]:
    """All questions, group by group, in passes of at most ``tokens`` tokens and ``asked`` scored places.

    A question that is larger than that has a pass to itself. Depends on the tokens alone, never on the
    model's weights, so that a base and a tuned model are read in the same layout.
    """
    groups: dict[str | None, list[int]] = {}
    for number, question in enumerate(questions):
        groups.setdefault(question.group, []).append(number)
    loose: list[Tree] = []
    for name, numbers in groups.items():
        prefix = () if name is None else shared_prefix([questions[number] for number in numbers])
        trees = [tree_of(number, questions[number], len(prefix)) for number in numbers]
        if prefix:
            yield Stage(prefix, packed(trees, tokens, asked))
        else:
            loose += trees
    if loose:
        yield Stage((), packed(loose, tokens, asked))


def packed(trees: Sequence[Tree], tokens: int, asked: int) -> list[Pack]:
    """First fit of trees, the longest first: passes come out nearly full, so that little is filled up."""
    done: list[Pack] = []
    still_open: list[Pack] = []
    for tree in sorted(trees, key=lambda tree: (-len(tree), tree.question)):
        pack = next((pack for pack in still_open if pack.takes(tree, tokens, asked)), None)
        if pack is None:
            pack = Pack()
            still_open.append(pack)
            if len(still_open) > OPEN_BINS:
                done.append(still_open.pop(0))
        pack.add(tree)
    return done + still_open
