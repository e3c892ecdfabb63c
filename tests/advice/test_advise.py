"""The advice as a whole: ranking with reasons, what overturns it, rungs, and the command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tunewise
from tunewise.advice.framework import APPROACHES
from tunewise.errors import SettingError, TaskFileError

GAPS = {
    "requires_external_knowledge": True,
    "knowledge_changes": "never",
    "dataset_size": 300,
    "requires_specific_style": True,
    "few_shot_meets_quality": False,
}


def test_every_approach_is_ranked_with_one_sentence_for_and_one_against():
    plain = tunewise.advise(facts=GAPS).to_json()
    assert plain["approach"] == plain["ranked"][0] == "rag+fine-tuning"
    assert sorted(plain["ranked"]) == sorted(APPROACHES)
    for approach in APPROACHES:
        for side in ("for", "against"):
            sentence = plain["reasons"][approach][side]
            assert sentence.endswith(".")
            assert sentence.count(". ") == 0


def test_a_difference_from_the_plain_walk_is_explained_and_an_agreement_is_not():
    plain = tunewise.advise(facts=GAPS).to_json()
    assert (plain["rule"], plain["literal_rule"]) == ("both_gaps", "step3_style_or_format")
    assert "The plain walk gives fine-tuning" in plain["difference"]
    agreed = tunewise.advise(facts={"requires_external_knowledge": True, "knowledge_changes": "daily"})
    assert agreed.to_json()["difference"] is None


def test_what_would_overturn_it_names_evidence_of_the_ladder_and_facts():
    said = tunewise.advise(facts=GAPS).to_json()["overturned_by"]
    assert any("decide" in entry["says"] for entry in said)
    assert {"fact": "knowledge_changes", "value": "daily", "approach": "rag"}.items() <= next(
        entry for entry in said if entry.get("fact") == "knowledge_changes"
    ).items()


def test_the_rungs_are_those_of_decide_from_light_to_heavy_and_the_others_have_a_reason():
    from tunewise.rungs.names import WEIGHTS

    plain = tunewise.advise(facts={"requires_external_knowledge": False, "dataset_size": 3}).to_json()
    assert set(plain["rungs"]) | set(plain["rungs_skipped"]) == set(WEIGHTS)
    assert plain["rungs"] == sorted(plain["rungs"], key=WEIGHTS.__getitem__)
    assert plain["rungs"][0] == "zero-shot"
    assert "rag" in plain["rungs_skipped"]
    assert "too few" in plain["rungs_skipped"]["lora"]


def test_the_rungs_of_a_task_are_those_that_decide_plans(reverse_task):
    task = reverse_task()
    plain = tunewise.advise(task).to_json()
    planned = tunewise.check(task)
    assert plain["rungs"] == [rung.rung for rung in planned.rungs if not rung.skipped_because]
    assert plain["sources"]["dataset_size"] == "rows of examples"
    assert "prompting_meets_quality" in plain["unknown"]


def test_a_task_whose_advice_contradicts_it_is_refused_with_both_places(reverse_task):
    task = reverse_task()
    folder = task.parent / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# A\n\nText.\n", encoding="utf-8")
    text = task.read_text() + (
        "knowledge: {documents: docs, changes: daily}\n"
        "advice:\n  knowledge_changes: never\n  requires_external_knowledge: false\n"
    )
    task.write_text(text, encoding="utf-8")
    with pytest.raises(TaskFileError) as caught:
        tunewise.advise(task)
    first, second = caught.value.problems
    assert first == (
        "line 7: advice.knowledge_changes: never (line 9) and knowledge.changes: daily (line 7) contradict"
        " each other; correct one of them"
    )
    assert "advice.requires_external_knowledge: false (line 10) and knowledge.documents (line 7)" in second


def test_neither_a_task_nor_facts_is_a_mistake():
    with pytest.raises(SettingError, match="either a task or facts"):
        tunewise.advise()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunewise", "advise", *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_the_command_gives_one_json_document_from_a_facts_file(tmp_path: Path):
    path = tmp_path / "facts.yaml"
    path.write_text("requires_specific_format: true\nfew_shot_meets_quality: false\n", encoding="utf-8")
    plain = json.loads(command("--facts", str(path), "--json").stdout)
    assert (plain["approach"], plain["rule"]) == ("fine-tuning", "step3_style_or_format")
    assert {"ranked", "reasons", "overturned_by", "rungs", "warnings", "literal_rule"} <= set(plain)
    words = command("--facts", str(path), "--latency-ms", "300").stdout
    assert words.startswith("fine-tuning\n")


def test_mistakes_exit_with_2_and_no_traceback(tmp_path: Path):
    path = tmp_path / "facts.yaml"
    path.write_text("prompting_meets_quality: maybe\n", encoding="utf-8")
    for arguments in (("--facts", str(path)), ("--facts", str(tmp_path / "none.yaml")), ()):
        done = command(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("tunewise: ")


def test_a_facts_file_is_read_without_the_heavy_parts_of_the_package(tmp_path: Path):
    path = tmp_path / "facts.yaml"
    path.write_text("dataset_size: 3\n", encoding="utf-8")
    code = (
        "import sys, tunewise; tunewise.advise(facts=sys.argv[1]).to_json();"
        "print([m for m in ('torch','pydantic','scipy','numpy','httpx','jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
