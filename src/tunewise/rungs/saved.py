"""A candidate on disk: everything it needs to answer again, byte for byte the same.

candidate.json   rung, layout, door (name and fingerprint), facts, what lies beside it
chunks.jsonl     the passages, when it looks passages up
vectors.npy      their vectors, when an encoder was used
nearest.jsonl    the train examples it looks examples up in
adapter/         the adapter, when one was tuned
model/           the whole model, when all weights were tuned
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewise.data import Message
from tunewise.errors import RunError
from tunewise.models.door import Decoding, Grammar
from tunewise.retrieval.chunking import Chunk
from tunewise.retrieval.index import Retriever
from tunewise.rungs.prompt import DoorOpener, NearestShots, PromptCandidate, PromptLayout, Shot

FORMAT = 1


def save_candidate(candidate: PromptCandidate, folder: Path) -> None:
    """Write a candidate into ``folder``; candidate.json comes last, so that half of one is none."""
    folder.mkdir(parents=True, exist_ok=True)
    if candidate.retriever is not None:
        candidate.retriever.save(folder)
    if candidate.nearest is not None:
        lines = [json.dumps(asdict(shot), ensure_ascii=False) for shot in candidate.nearest.shots]
        (folder / "nearest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tuned = None if candidate.adapter is None else tuned_name(candidate.adapter)
    if candidate.adapter is not None and candidate.adapter.resolve() != (folder / str(tuned)).resolve():
        shutil.copytree(candidate.adapter, folder / str(tuned), dirs_exist_ok=True)
    encoder = candidate.retriever.encoder if candidate.retriever is not None else None
    body = {
        "format": FORMAT,
        "rung": candidate.rung,
        "door": {"name": candidate.door.name, "fingerprint": candidate.door.fingerprint},
        "layout": asdict(candidate.layout),
        "index": candidate.retriever is not None,
        "encoder": None if encoder is None else encoder.name,
        "nearest": candidate.nearest is not None,
        "adapter": tuned is not None,
        "tuned": tuned,
        "facts": candidate.facts(),
    }
    unfinished = folder / "candidate.json.part"
    unfinished.write_text(json.dumps(body, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(folder / "candidate.json")


def load_candidate(folder: Path, open_door: DoorOpener) -> PromptCandidate:
    """The candidate that was saved in ``folder``.

    open_door: called with the folder of the saved adapter or model, or with None when there is none. Raises
    RunError when there is no candidate or one of another format, and when the door is not the one that
    was certified (its fingerprint differs), since the answers would be those of another model.
    """
    body = _read(folder)
    tuned = folder / (body.get("tuned") or "adapter") if body["adapter"] else None
    door = open_door(tuned)
    if door.fingerprint != body["door"]["fingerprint"]:
        raise RunError(
            f"{folder}: this candidate was built on {body['door']['name']} with fingerprint "
            f"{body['door']['fingerprint']}, but the door opened now is {door.name} with fingerprint "
            f"{door.fingerprint}; use the model of the run, or decide again with the new one (with "
            "decoding.precision: auto a CPU of another kind counts as another one)"
        )
    nearest = None
    if body["nearest"]:
        text = (folder / "nearest.jsonl").read_text(encoding="utf-8")
        nearest = NearestShots([_shot(json.loads(line)) for line in text.split("\n") if line])
    return PromptCandidate(
        rung=body["rung"],
        door=door,
        layout=_layout(body["layout"]),
        retriever=Retriever.load(folder, body["encoder"]) if body["index"] else None,
        nearest=nearest,
        adapter=tuned,
        built=body["facts"],
    )


def tuned_name(folder: Path) -> str:
    """``adapter`` or ``model``, by what lies in the folder."""
    return "model" if (folder / "config.json").is_file() else "adapter"


def _read(folder: Path) -> Mapping[str, Any]:
    file = folder / "candidate.json"
    try:
        body: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{file}: expected a saved candidate, but there is none; run decide first") from error
    except json.JSONDecodeError as error:
        raise RunError(f"{file}: not a saved candidate ({error}); run decide again") from error
    if body.get("format") != FORMAT:
        raise RunError(f"{file}: expected format {FORMAT}, got {body.get('format')!r}; run decide again")
    return body


def _layout(body: Mapping[str, Any]) -> PromptLayout:
    return PromptLayout(
        instruction=body["instruction"],
        decoding=Decoding(**body["decoding"]),
        shots=tuple(_shot(shot) for shot in body["shots"]),
        nearest=body["nearest"],
        passages=body["passages"],
        grammar=_grammar(body.get("grammar")),
    )


def _grammar(body: Mapping[str, Any] | None) -> Grammar | None:
    if body is None:
        return None
    separators = body["separators"]
    return Grammar(body["kind"], body["source"], None if separators is None else tuple(separators))


def _shot(body: Mapping[str, Any]) -> Shot:
    return Shot(
        key=body["key"],
        turns=tuple(Message(**turn) for turn in body["turns"]),
        answer=body["answer"],
        passages=tuple(Chunk(**chunk) for chunk in body["passages"]),
    )
