"""A tiny random model with a chat template, in a folder like any other local model."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("trl")

from tunewise.data import Example, Message
from tunewise.training.masks import TrainRow

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKERS = [
    "<|im_start|>",
    "<|im_end|>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<start_of_turn>",
    "<end_of_turn>",
]
TEXT = 'system user assistant model name town food cheap high low The Red Lion in a pub { } : , " Norwich Ely'


def tiny_tokenizer(template: str = CHATML, stop: str = "<|im_end|>"):
    """Byte-level BPE over a few words, with the markers of several chat formats."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=MARKERS, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([TEXT] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=stop, pad_token=stop)
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable:
    return tiny_tokenizer


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """Folder of a random Llama of two layers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(7)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def example(number: int) -> Example:
    """A made-up extraction row; the number decides everything about it."""
    rng = random.Random(number)
    name, town = rng.choice(["Red Lion", "Old Ship", "Blue Bell"]), rng.choice(["Norwich", "Ely"])
    text = (
        f"The {name} in {town} is {rng.choice(['cheap', 'high', 'low'])} {'pub ' * rng.randint(0, 4)}{number}"
    )
    answer = json.dumps({"name": name, "town": town})
    return Example(f"{number:016x}", (Message("user", text),), (answer,))


@pytest.fixture(scope="session")
def make_example() -> Callable[[int], Example]:
    return example


@pytest.fixture(scope="session")
def rows(tiny) -> list[TrainRow]:
    """Forty rows rendered for the tiny model."""
    from tunewise.models.tokens import render
    from tunewise.models.weights import load_tokenizer
    from tunewise.training.masks import render_rows

    examples = [example(number) for number in range(40)]
    system = Message("system", "name and town")
    tokenizer = load_tokenizer(tiny)
    return list(render_rows(tokenizer, render, examples, lambda e: (system, *e.turns), 256).rows)


WORDS = [*"red lion pub town food cheap high low name Norwich old ship bell".split()]  # noqa: SIM905


@pytest.fixture(scope="session")
def questions(tiny, tmp_path_factory):
    """Three files of made-up questions, the right answer of each being what the tiny model picks."""
    folder = tmp_path_factory.mktemp("questions")
    from tunewise.benchmarks.item import Item
    from tunewise.benchmarks.scorer import LocalScorer

    rng = random.Random(5)
    scorer = LocalScorer(tiny, keep=False)
    for name in ("one", "two", "three"):
        rows = []
        for number in range(90):
            question = f"{' '.join(rng.choices(WORDS, k=5))} {number}"
            choices = rng.sample(WORDS, 3)
            rows.append(
                {"id": f"{name}{number}", "question": question, "choices": choices, "answer_index": 0}
            )
        items = [
            Item(row["id"], f"Question: {row['question']}\nAnswer:", tuple(f" {c}" for c in row["choices"]))
            for row in rows
        ]
        picks = [item.pick_norm for item in scorer.score(items).items]
        lines = [json.dumps(row | {"answer_index": pick}) for row, pick in zip(rows, picks, strict=True)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    scorer.close()
    return folder


TASK = """\
name: towns
instruction: name and town
examples: {{train: train.jsonl, selection: selection.jsonl, certification: certification.jsonl}}
metric: exact
target: 0.5
decoding: {{max_new_tokens: 8}}
model: {tiny}
training: {{epochs: 2, learning_rate: 0.005, lora_rank: 4{more}}}
"""


def write(path, examples):
    rows = [{"input": e.input, "output": e.answer} for e in examples]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def task_file(tiny, make_example, tmp_path, monkeypatch):
    """``make(more="", train=range) -> task file`` in a folder of its own, which is entered."""

    def make(more="", train=range(16)):
        write(tmp_path / "train.jsonl", [make_example(n) for n in train])
        write(tmp_path / "selection.jsonl", [make_example(n) for n in range(20, 28)])
        write(tmp_path / "certification.jsonl", [make_example(n) for n in range(100, 140)])
        write(tmp_path / "general.jsonl", [make_example(n) for n in range(200, 210)])
        (tmp_path / "task.yaml").write_text(TASK.format(tiny=tiny, more=more), encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        return tmp_path / "task.yaml"

    return make
