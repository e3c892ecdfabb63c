"""Two made voices that say the same things: a plain one and an old-fashioned one, on two topics."""

import random
from types import SimpleNamespace

import pytest

from tunewise.evidence.style import Voice, VoiceText

TOPICS = {
    "garden": ("tomato ladder hedge gardener spade autumn lawn compost", "planted watered trimmed carried"),
    "harbour": ("vessel anchor sailor lantern cargo tide pier captain", "loaded unloaded painted mended"),
}
PLAIN = (
    "I don't think you should have {verb} the {a} before we {verb2} the {b}.",
    "You can see that the {a} and the {b} were {verb} by your {c}.",
    "It's not clear why he {verb} the {a}; maybe the {b} will help us.",
    "Do you know who {verb} this {a}? I can't find the {b} or the {c}.",
)
OLD = (
    "Methinks thou shouldst not have {verb} the {a} ere we {verb2} the {b}.",
    "Lo, thou canst see the {a} and the {b}, {verb} by thy {c}!",
    "'Tis not clear wherefore he hath {verb} the {a}; perchance the {b} shall aid us.",
    "Dost thou know who hath {verb} this {a}? Alas, I find not the {b} nor the {c}.",
)


def write(voice: tuple[str, ...], topic: str, count: int, seed: int, own: float = 1.0) -> list[str]:
    """Texts of two sentences; ``own``: share of them in this voice, the rest in the other."""
    rng = random.Random(seed)
    nouns, verbs = (words.split() for words in TOPICS[topic])
    other = OLD if voice is PLAIN else PLAIN
    texts = []
    for _ in range(count):
        patterns = voice if rng.random() < own else other
        texts.append(
            " ".join(
                pattern.format(
                    **dict(zip("abc", rng.sample(nouns, 3), strict=True)),
                    **dict(zip(("verb", "verb2"), rng.sample(verbs, 2), strict=True)),
                )
                for pattern in rng.sample(patterns, 2)
            )
        )
    return texts


def as_texts(texts: list[str], prefix: str = "") -> list[VoiceText]:
    return [VoiceText(text, f"{prefix}{number}") for number, text in enumerate(texts)]


@pytest.fixture(scope="session")
def made() -> SimpleNamespace:
    """What the tests write with."""
    return SimpleNamespace(OLD=OLD, PLAIN=PLAIN, write=write, as_texts=as_texts)


@pytest.fixture(scope="session")
def old_voice() -> Voice:
    """Fitted on the garden alone."""
    return Voice.fit(as_texts(write(OLD, "garden", 80, 1)), as_texts(write(PLAIN, "garden", 80, 2)))
