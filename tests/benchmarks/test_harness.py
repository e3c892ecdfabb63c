"""The same log-probabilities and picks as lm-evaluation-harness, item by item, on a tiny random model."""

import random
import warnings

import pytest

pytest.importorskip("torch")
pytest.importorskip("lm_eval")

from tunewise.benchmarks.item import Item, multiple_choice
from tunewise.benchmarks.scorer import LocalScorer

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "ate", "all", "of", "it", "by", "noon", "1", "2", "3"]


def made_items():
    """Items alone, in two subjects with long examples, with trailing spaces, with one-token endings."""
    rng = random.Random(6)
    text = lambda low, high: " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))  # noqa: E731
    items = [multiple_choice(f"a{n}", text(3, 20), [text(1, 9) for _ in range(4)], 0) for n in range(20)]
    items += [Item(f"s{n}", text(3, 9) + "  ", (" " + text(1, 3), text(1, 3))) for n in range(5)]
    for subject in ("x", "y"):
        shots = "\n\n".join(text(10, 15) + "\nAnswer: A" for _ in range(5)) + "\n\n"
        items += [
            multiple_choice(f"{subject}{n}", f"{shots}{text(4, 12)}\nAnswer:", "ABCD", 0, subject)
            for n in range(12)
        ]
    return [*items, *(Item(f"t{n}", "", (text(9, 60),)) for n in range(4))]


@pytest.mark.filterwarnings("ignore")
def test_every_item_has_the_harness_s_log_probabilities(tiny_folder):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    items = made_items()
    requests = [
        Instance("loglikelihood", {}, (item.context, ending), number)
        for item in items
        for number, ending in enumerate(item.endings)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = HFLM(pretrained=str(tiny_folder), dtype="float32", device="cpu", batch_size=8)
        answers = iter(peer.loglikelihood(requests, disable_tqdm=True))
    for item, scored in zip(items, LocalScorer(tiny_folder, keep=False).score(items).items, strict=True):
        theirs = [next(answers) for _ in item.endings]
        assert list(scored.logprobs) == pytest.approx([logprob for logprob, _ in theirs], abs=1e-3), item.id
        assert list(scored.greedy) == [greedy for _, greedy in theirs]
