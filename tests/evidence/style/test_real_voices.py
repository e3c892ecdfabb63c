"""The proof on texts of people: Shakespeare against modern English, played roles against plain answers."""

import json
import re
from pathlib import Path

import pytest

from tunewise.evidence.style import Voice, VoiceText

SHARED = Path(__file__).parents[4] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the research data is not here")

LOVE = re.compile(r"\b(love|heart|lady|wife|marry|beaut|kiss|maid|sweet|husband|daughter|eyes)", re.I)
WAR = re.compile(r"\b(death|dead|die|kill|blood|sword|king|war|fight|murder|grave|soldier|enemy)", re.I)


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (SHARED / name).read_text(encoding="utf-8").splitlines()]


def texts(found: list[dict[str, str]], side: str = "output", prefix: str = "") -> list[VoiceText]:
    return [VoiceText(row[side], f"{prefix}{number}") for number, row in enumerate(found)]


@pytest.fixture(scope="module")
def shakespeare():
    train, test = (
        rows("style_shakespeare/style_train.jsonl")[:800],
        rows("style_shakespeare/style_test.jsonl"),
    )
    return Voice.fit(texts(train), texts(train, "input")), texts(test[:500]), texts(test[:500], "input")


@pytest.fixture(scope="module")
def persona():
    played = rows("style_persona/gpteacher_roleplay.jsonl")
    plain = rows("instruction_mix/alpaca_en_demo.jsonl")
    voice = Voice.fit(texts(played[:300], prefix="r"), texts(plain[:300], prefix="b"))
    return voice, texts(played[300:600]), texts(plain[300:600])


@pytest.mark.parametrize("which", ["shakespeare", "persona"])
def test_held_out_reference_stands_near_1_plain_near_0_and_mixtures_in_order(which, request):
    voice, spoken, plain = request.getfixturevalue(which)
    places = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        count = int(share * len(spoken))
        places.append(voice.position([*spoken[:count], *plain[count : len(spoken)]]).estimate)
    assert places[0] == pytest.approx(0, abs=0.1)
    assert places[-1] == pytest.approx(1, abs=0.1)
    assert places == sorted(places)


@pytest.mark.parametrize("which", ["shakespeare", "persona"])
def test_four_of_five_new_reference_texts_are_in_the_voice(which, request):
    voice, spoken, plain = request.getfixturevalue(which)
    passed = sum(voice.speaks(t.text) for t in spoken) / len(spoken)
    assert passed == pytest.approx(0.8, abs=0.07)
    assert sum(voice.speaks(t.text) for t in plain) / len(plain) < 0.45  # a line has ten words


def test_a_voice_learnt_on_love_stands_as_high_on_war():
    found = [
        row for part in ("train", "valid", "test") for row in rows(f"style_shakespeare/style_{part}.jsonl")
    ]
    both = [(row, row["input"] + row["output"]) for row in found]
    love = [row for row, text in both if LOVE.search(text) and not WAR.search(text)]
    war = [row for row, text in both if WAR.search(text) and not LOVE.search(text)]
    learnt, held = love[: len(love) // 2], love[len(love) // 2 :]
    voice = Voice.fit(texts(learnt), texts(learnt, "input"))
    for side in ("output", "input"):
        here, there = (voice.position(texts(part, side)).estimate for part in (held, war))
        assert abs(here - there) < 0.1, side
