"""A voice in the prompt against a voice trained in, over conversations, with the embedded model.

    python benchmarks/style.py [--data ../shared/data] [--rows 300] [--epochs 3] [--learning-rate 5e-4]
        [--conversations 12] [--turns 8] [--answers FILE] [--again FILE] [--out FOLDER]

Task: every user turn is a line of modern English, to be said again in the voice of Shakespeare's plays. The
model's own answers stay in the conversation, so that a voice that slips can go on slipping.

- bare: a plain instruction, no voice. Its answers to the train inputs are the base side of the measure.
- prompt: the voice described in the instruction, with four examples as turns.
- lora: the plain instruction, the voice trained in on single turns (package recipe, ``--rows`` rows).

Each way is measured twice: against the bare model's answers (what ``decide`` does), and against the modern
lines of the train rows (``style.base``), where a line that is only copied is not in the voice.

Inputs of the conversations are lines that neither training nor the measure has seen. Printed for each way:
the share of answers in the voice, the position (0 the base, 1 the plays) and its slope per turn, each with
a 95 % interval over conversations, word overlap with the line of the play, and the paired difference of
lora and prompt. Also printed: what the human lines themselves would score, and the shares of answers that
copy their input or repeat one word more than five times in a row. ``--answers`` writes all answers,
``--again`` reads them and asks no model.
Spaces before punctuation, which the data has, are closed first: they are no voice. Never fails on a figure.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from tunewise.data import Example, Message, example_key
from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.evidence.style import Turn, Voice, VoiceText, drift, measure_outputs
from tunewise.models.door import Decoding, Request
from tunewise.models.embedded import embedded_folder
from tunewise.models.local import LocalDoor
from tunewise.models.precision import best_precision
from tunewise.models.tokens import render
from tunewise.progress import Silent
from tunewise.training.masks import render_rows
from tunewise.training.recipe import Recipe, train

PLAIN = "Say the user's line again in your own words. Answer with the line only."
VOICED = (
    "Say the user's line again as a character of Shakespeare's plays would: early modern English, thou and "
    "thee, hath and doth, the word order of the plays. Answer with the line only."
)
SHOTS, MOST_TOKENS = 4, 40
LOOP = re.compile(r"(\b\w+\b)(?:\W+\1\b){5}", re.IGNORECASE)
Lines = list[list[str]]


def pairs(path: Path) -> list[tuple[str, str]]:
    """Modern line and line of the play, of 5 to 25 words, with closed punctuation."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [(closed(row["input"]), closed(row["output"])) for row in rows]
    return [pair for pair in found if all(5 <= len(side.split()) <= 25 for side in pair)]


def closed(text: str) -> str:
    """Without the spaces that tokenising put around punctuation and apostrophes."""
    text = re.sub(r"\s+([,.;:!?'’)])", r"\1", text)
    return re.sub(r"(\()\s+", r"\1", text).strip()


def example(modern: str, play: str) -> Example:
    turns = (Message("user", modern),)
    return Example(example_key(turns, [play]), turns, (play,))


def answers(door: LocalDoor, chats: Sequence[Sequence[Message]]) -> list[str]:
    """One greedy answer per chat, in calls as large as the door's batches."""
    requests = [Request(tuple(chat), Decoding(MOST_TOKENS)) for chat in chats]
    said: list[str] = []
    for start in range(0, len(requests), door.batch_size):
        said += [answer.text for answer in door.answer(requests[start : start + door.batch_size])]
    return said


def converse(door: LocalDoor, opening: Sequence[Message], inputs: Lines) -> Lines:
    """Every conversation turn by turn, all of them side by side, with the model's answers in the loop."""
    chats = [list(opening) for _ in inputs]
    said: Lines = [[] for _ in inputs]
    for turn in range(len(inputs[0])):
        for chat, lines in zip(chats, inputs, strict=True):
            chat.append(Message("user", lines[turn]))
        for chat, own, text in zip(chats, said, answers(door, chats), strict=True):
            chat.append(Message("assistant", text))
            own.append(text)
    return said


def trained(rows: Sequence[tuple[str, str]], options: argparse.Namespace, folder: Path) -> LocalDoor:
    """The embedded model with an adapter trained on the rows, the last snapshot."""
    base = LocalDoor(embedded_folder(), name="embedded")
    rendered = render_rows(
        base.tokenizer,
        render,
        [example(*row) for row in rows],
        lambda e: (Message("system", PLAIN), *e.turns),
        base.context_window,
    )
    recipe = Recipe(options.learning_rate, options.epochs, 0.01, 1.0, 8, 8, options.seed, best_precision())
    began = time.perf_counter()
    made = train(base.folder, rendered.rows, (), recipe, folder, Silent())
    losses = made.facts["losses"]
    print(
        f"lora: {len(rendered.rows)} rows, {made.facts['steps']} steps, loss {fmean(losses[:5]):.2f} ->"
        f" {fmean(losses[-5:]):.2f}, {time.perf_counter() - began:.0f} s"
    )
    base.close()
    return LocalDoor(embedded_folder(), adapter=made.snapshots[-1].folder, name="lora")


def figures(voice: Voice, said: Lines, plays: Lines) -> dict[str, Any]:
    """All figures of one way."""
    turns = [Turn(str(c), t, text) for c, own in enumerate(said) for t, text in enumerate(own, 1)]
    texts = [VoiceText(turn.text, turn.conversation) for turn in turns]
    overlap = [
        METRICS["token_f1"].score(text, [play], MetricContext()).value or 0.0
        for own, lines in zip(said, plays, strict=True)
        for text, play in zip(own, lines, strict=True)
    ]
    return {**measure_outputs(voice, texts), **drift(voice, turns), "token_f1": fmean(overlap)}


def in_voice_by_conversation(voice: Voice, said: Lines) -> np.ndarray:
    """Share of answers in the voice, one figure per conversation."""
    return np.array([fmean(voice.speaks(text) for text in own) for own in said])


def shown(figure: dict[str, Any], form: str = ".2f") -> str:
    """An estimate with its interval, or why there is none."""
    if figure["estimate"] is None:
        return f"undefined ({figure['why']})"
    if figure["low"] is None:
        return format(figure["estimate"], form)
    return " ".join((format(figure["estimate"], form), f"[{figure['low']:{form}}, {figure['high']:{form}}]"))


def print_way(name: str, found: dict[str, Any]) -> None:
    per_turn = " ".join(f"{row['estimate']:.2f}" for row in found["per_turn"])
    print(
        f"{name}: in the voice {shown(found['share'])}; position {shown(found['position'])}; slope per turn"
        f" {shown(found['slope'], '+.3f')} ({found['drift']}); token_f1 {found['token_f1']:.2f};"
        f" copied {found['copied']:.2f}, looping {found['looping']:.2f}; {found['words']} words\n"
        f"   position by turn: {per_turn}"
    )


def compare(first: np.ndarray, second: np.ndarray, seed: int) -> str:
    """Mean paired difference over conversations with a 95 % bootstrap interval."""
    apart = first - second
    drawn = np.random.default_rng(seed).choice(apart, (4000, len(apart))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{apart.mean():+.2f} [{low:+.2f}, {high:+.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--conversations", type=int, default=12)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", type=Path, help="measure the answers of this file again, ask no model")
    parser.add_argument("--answers", type=Path, help="write all answers here (JSON)")
    parser.add_argument("--out", type=Path, help="keep the training work here")
    options = parser.parse_args()
    began = time.perf_counter()
    rows = pairs(options.data / "style_shakespeare" / "style_train.jsonl")[: options.rows]
    said = json.loads(options.again.read_text(encoding="utf-8")) if options.again else asked(rows, options)
    if options.answers:
        options.answers.write_text(json.dumps(said, ensure_ascii=False, indent=1), encoding="utf-8")
    plays = [VoiceText(play, str(n)) for n, (_, play) in enumerate(rows)]
    for against, texts in (
        ("the bare model's answers", said["base"]),
        ("modern lines", [modern for modern, _ in rows]),
    ):
        voice = Voice.fit(plays, [VoiceText(text, str(n)) for n, text in enumerate(texts)])
        print(f"\nThe voice of the plays told from {against}: AUC {shown(voice.separation().to_json())}")
        print_ways(voice, said, options.seed)
    print(f"{time.perf_counter() - began:.0f} s in all")


def asked(rows: Sequence[tuple[str, str]], options: argparse.Namespace) -> dict[str, Any]:
    """All answers: of the bare model to the train inputs, and of the three ways in conversations."""
    fresh = pairs(options.data / "style_shakespeare" / "style_test.jsonl")[SHOTS:]
    fresh = fresh[: options.conversations * options.turns]
    talks = [fresh[n :: options.conversations] for n in range(options.conversations)]
    inputs, plays = ([[pair[side] for pair in talk] for talk in talks] for side in (0, 1))
    door = LocalDoor(embedded_folder(), name="embedded")
    bare = (Message("system", PLAIN),)
    base = answers(door, [(*bare, Message("user", modern)) for modern, _ in rows])
    shots = [
        Message(role, text)
        for modern, play in rows[:SHOTS]
        for role, text in (("user", modern), ("assistant", play))
    ]
    said: dict[str, Any] = {"inputs": inputs, "plays": plays, "base": base}
    said["bare"] = converse(door, bare, inputs)
    said["prompt"] = converse(door, (Message("system", VOICED), *shots), inputs)
    door.close()
    with tempfile.TemporaryDirectory() as work:
        tuned = trained(rows, options, options.out or Path(work))
        said["lora"] = converse(tuned, bare, inputs)
        tuned.close()
    return said


def print_ways(voice: Voice, said: dict[str, Any], seed: int) -> None:
    """One block for each way, and the paired differences."""
    inputs, plays = said["inputs"], said["plays"]
    ways = {name: said[name] for name in ("bare", "prompt", "lora")}
    for name, lines in (*ways.items(), ("the plays' own lines", plays), ("the modern lines", inputs)):
        print_way(name, figures(voice, lines, plays) | defects(lines, inputs))
    by_talk = {name: in_voice_by_conversation(voice, lines) for name, lines in ways.items()}
    for one, other in (("lora", "prompt"), ("prompt", "bare")):
        print(f"{one} - {other}, share in the voice: {compare(by_talk[one], by_talk[other], seed)}")


def defects(said: Lines, inputs: Lines) -> dict[str, float]:
    """Shares of answers that copy their input, and that repeat a word more than five times in a row."""
    texts, lines = [t for own in said for t in own], [line for talk in inputs for line in talk]
    both = list(zip(texts, lines, strict=True))
    return {
        "copied": fmean(text.strip().casefold() == line.strip().casefold() for text, line in both),
        "looping": fmean(bool(LOOP.search(text)) for text, _ in both),
    }


if __name__ == "__main__":
    main()
