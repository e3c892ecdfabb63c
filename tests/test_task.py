"""The task file: what a right one gives, and the words for every mistake."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from tunewise.errors import TaskFileError
from tunewise.task import EndpointSpec, PartPaths, ScriptedSpec, Split, Task, load_task

Write = Callable[[str], Path]
GOOD = "name: tickets\nexamples: rows.jsonl\nmetric: exact\ntarget: 0.9\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a task file beside a data file and a folder of documents."""
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n')
    (tmp_path / "other.jsonl").write_text('{"input": "c", "output": "d"}\n')
    (tmp_path / "third.jsonl").write_text('{"input": "e", "output": "f"}\n')
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "leave.md").write_text("# Leave\n")
    (tmp_path / "empty").mkdir()

    def write(text: str) -> Path:
        path = tmp_path / "task.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path: Path) -> list[str]:
    with pytest.raises(TaskFileError) as caught:
        load_task(path)
    return list(caught.value.problems)


def test_the_smallest_task_file_has_the_defaults_of_the_design(write: Write, tmp_path: Path) -> None:
    task = load_task(write(GOOD))
    assert task.examples == tmp_path / "rows.jsonl"
    assert (task.split.train, task.split.selection, task.split.certification) == (0.50, 0.15, 0.35)
    assert (task.model, task.tune, task.instruction, task.output, task.knowledge) == ("embedded", *[None] * 4)
    assert (task.decoding.max_new_tokens, task.decoding.temperature) == (256, 0.0)
    assert (task.training.learning_rate, task.training.lora_rank, task.training.epochs) == (None, 8, 3.0)
    assert task.on_not_proved == "climb"
    assert task.path == tmp_path / "task.yaml"


def test_every_section_is_read(write: Write, tmp_path: Path) -> None:
    text = """
name: tickets
instruction: Sort it.
examples: {train: rows.jsonl, selection: other.jsonl, certification: third.jsonl}
split: {group: customer}
metric: accuracy
target: 0.90
tolerance: 0
output: {choices: [yes, no, 3, true]}
knowledge: {documents: handbook/}
decoding: {max_new_tokens: 32, temperature: 0.5}
model: {endpoint: "http://localhost:1/v1", name: big, usd_per_million: {input: 1, output: 2}}
tune: {model: {scripted: "pkg.mod:Thing"}, usd_per_hour: 0.6}
training: {learning_rate: 1e-4, epochs: 2, lora_rank: 4}
budget: {usd: 5}
on_not_proved: stop
"""
    task = load_task(write(text))
    assert isinstance(task.examples, PartPaths)
    assert task.examples.certification == tmp_path / "third.jsonl"
    assert task.split.group == "customer"
    assert task.output is not None
    assert task.output.choices == ("yes", "no", "3", "true")
    assert task.knowledge is not None
    assert task.knowledge.documents == tmp_path / "handbook"
    assert isinstance(task.model, EndpointSpec)
    assert task.model.usd_per_million is not None
    assert (task.model.name, task.model.usd_per_million.output, task.model.concurrency) == ("big", 2, 8)
    assert task.tune is not None
    assert task.tune.model == ScriptedSpec(scripted="pkg.mod:Thing")
    assert task.training.learning_rate == 1e-4
    assert task.budget is not None
    assert (task.budget.usd, task.budget.hours) == (5, None)


@pytest.mark.parametrize("target", [0.5, 0.8, 0.9, 0.97])
def test_the_default_zone_is_two_points_at_090_and_shrinks_as_the_standard_error(target: float) -> None:
    task = Task(name="t", examples=Path("x"), metric="exact", target=target)
    assert task.zone == pytest.approx(0.02 * math.sqrt(target * (1 - target)) / 0.3)


def test_a_tolerance_of_zero_is_the_strict_test() -> None:
    assert Task(name="t", examples=Path("x"), metric="exact", target=0.9, tolerance=0).zone == 0


def test_a_task_is_frozen() -> None:
    task = Task(name="t", examples=Path("x"), metric="exact", target=0.9)
    with pytest.raises(ValidationError, match="frozen"):
        task.target = 0.1  # type: ignore[misc]


def test_all_mistakes_come_at_once_in_the_order_of_their_lines(write: Write) -> None:
    found = problems(
        write(
            "name: my tickets\n"
            "exampels: rows.jsonl\n"
            "metric: acuracy\n"
            "target: 1.2\n"
            "knowledge:\n"
            "  documents: empty\n"
            "budget: 5\n"
        )
    )
    assert [problem.split(":")[0] for problem in found] == ["line 1"] * 2 + [
        f"line {n}" for n in (2, 3, 4, 6, 7)
    ]
    assert "examples: missing; add for example 'examples: rows.jsonl'" in "\n".join(found)
    assert str(TaskFileError("task.yaml", found)).startswith("task.yaml: 7 mistakes in the task file\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("budgit: 3", "line 5: budgit: unknown key; did you mean 'budget'? (known here: name, instruction,"),
        ("split: {trian: 1}", "split.trian: unknown key; did you mean 'train'?"),
        (
            "model: {endpoint: 'http://a/v1', name: x, key: s}",
            "model.key: unknown key (known here: end",
        ),
        ("tune: {model: {scripted: 'a:b', x: 1}}", "tune.model.x: unknown key (known here: scripted)"),
        ("1: 2", "line 5: 1: unknown key"),
        ("path: x", "line 5: path: unknown key"),
        ("limits: {latency: 500}", "line 5: limits.latency: unknown key; did you mean 'latency_ms'?"),
        ("output: {json_schema: s.json}", "output.json_schema.file: 's.json' does not exist"),
        ("knowledge: {documents: handbook, changes: hourly}", "knowledge.changes: it must be 'never', "),
        ("advice: {knowledge_changes: dayly}", "advice.knowledge_changes: one of never, yearly"),
        ("advice: [1]", "advice: a section of facts was expected, got [1]"),
        ("training: {mix: {share: 0.3}}", "training.mix.general: missing"),
        ("training: {kl: {general: rows.jsonl, weight: 0}}", "training.kl.weight: it must be greater than 0"),
        ("training: {lora_targets: q_proj}", "all-linear or a list of layers was expected"),
        ("teacher: {endpoint: x, name: y}", "teacher.model.endpoint: a URL was expected"),
        ("tolerance: 0.95", "line 5: tolerance: 0.95 must be smaller than the target 0.9"),
        ("tolerance: -1", "line 5: tolerance: it must be greater than or equal to 0, got -1"),
        ("split: {train: 0.5, selection: 0.5, certification: 0.5}", "split: the shares must sum to 1, got"),
        ("split: {certification: 0}", "split.certification: it must be greater than 0, got 0"),
        ("split: {train: half}", "split.train: a number was expected, got 'half'"),
        ("knowledge: {documents: nowhere}", "knowledge.documents: 'nowhere' does not exist (looked for /"),
        ("knowledge: {documents: empty}", "knowledge.documents: 'empty' is an empty folder"),
        ("knowledge: {}", "knowledge.documents: missing; add for example 'documents: handbook/'"),
        ("model: ./weights", "model: './weights' is no folder (looked for /"),
        ("model: {endpoint: ftp://a, name: x}", "model.endpoint: a URL was expected (http://HOST:PORT/v1"),
        ("model: {scripted: nothing}", "model.scripted: module:attribute was expected"),
        ("model: 3", "model: a text was expected, got 3"),
        ("output: {choices: [one]}", "output.choices: a list of at least two different answers was expected"),
        ("output: {choices: [a, b, a]}", "output: the choice 'a' stands twice; keep one"),
        ("decoding: {max_new_tokens: 1.5}", "decoding.max_new_tokens: a whole number was expected, got 1.5"),
        ("decoding: {temperature: true}", "decoding.temperature: a number was expected, got true"),
        ("training: {epochs: '3'}", "training.epochs: a number was expected, got '3'"),
        ("training: {learning_rate: .nan}", "training.learning_rate: a number was expected, got '.nan'"),
        ("on_not_proved: stay", "on_not_proved: it must be 'climb' or 'stop', got 'stay'"),
        ("budget: 5", "budget: a section with keys of its own was expected, got 5"),
        ("name: again", "line 5: name: stands twice (first in line 1: tickets, here again); keep one"),
    ],
)
def test_one_wrong_line_gives_one_message_with_line_key_and_value(
    write: Write, line: str, message: str
) -> None:
    (found,) = problems(write(f"{GOOD}{line}\n"))
    assert found.startswith("line 5: ")
    assert message in found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.9", "0", "line 4: target: a number between 0 and 1, both excluded, was expected"),
        ("0.9", "1", "line 4: target: a number between 0 and 1, both excluded, was expected"),
        ("0.9", "90%", "line 4: target: a number was expected, got '90%'"),
        (
            "exact",
            "exakt",
            "line 3: metric: unknown metric 'exakt'; did you mean 'exact'?; use one of",
        ),
        ("exact", "judge", "line 3: metric: 'judge' needs a section 'judge'"),
        ("exact", "[exact]", 'line 3: metric: unknown metric ["exact"]'),
        ("rows.jsonl", "row.jsonl", "line 2: examples: 'row.jsonl' does not exist (looked for /"),
        ("rows.jsonl", "handbook", "line 2: examples: 'handbook' is a folder; name the file"),
        ("rows.jsonl", "", "line 2: examples: a path was expected, got null"),
        ("tickets", "my tickets", "line 1: name: letters, digits, '.', '_' and '-' were expected"),
    ],
)
def test_a_wrong_value_of_a_needed_key_is_named(write: Write, old: str, new: str, message: str) -> None:
    (found,) = problems(write(GOOD.replace(old, new)))
    assert found.startswith(message)


def test_three_files_and_shares_exclude_each_other(write: Write) -> None:
    parts = "examples: {train: rows.jsonl, selection: other.jsonl, certification: third.jsonl}"
    shares = "split: {train: 0.5, selection: 0.15, certification: 0.35}\n"
    (found,) = problems(write(GOOD.replace("examples: rows.jsonl", parts) + shares))
    assert found.startswith("line 5: split.certification: 'examples' already names the three parts")


def test_one_file_cannot_be_two_parts(write: Write) -> None:
    parts = "examples: {train: rows.jsonl, selection: other.jsonl, certification: rows.jsonl}"
    (found,) = problems(write(GOOD.replace("examples: rows.jsonl", parts)))
    assert (
        found
        == "line 2: examples.certification: 'rows.jsonl' is also examples.train; the parts must be disjoint"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\n  metric: y\n", "line 2, column 9: this is not YAML: mapping values are not allowed here"),
        ("name: [x\n", "line 2, column 1: this is not YAML"),
        ("a: &x {b: *x}\n", "line 1, column 4: this is not YAML: an alias holds itself"),
        (
            "a: !!python/object:os.x {}\n",
            "line 1, column 4: this is not YAML: could not determine",
        ),
        ("a: !!int x\n", "this is not YAML: invalid literal for int()"),
        ("- a\n", "line 1: lines of the form 'key: value' were expected, got a list"),
        ("", "line 1: lines of the form 'key: value' were expected, got nothing"),
    ],
)
def test_text_that_is_no_task_file_is_refused_with_its_place(write: Write, text: str, message: str) -> None:
    (found,) = problems(write(text))
    assert found.startswith(message)


def test_a_byte_that_is_not_utf8_is_named_with_its_line(write: Write) -> None:
    path = write(GOOD)
    path.write_bytes(b"name: x\ninstruction: caf\xe9\n")
    assert problems(path) == ["line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"]


def test_a_missing_task_file_says_how_to_write_one(tmp_path: Path) -> None:
    assert problems(tmp_path / "task.yaml") == ["the file does not exist; write one with: tunewise init DATA"]
    assert problems(tmp_path)[0].startswith("this is a folder")


def test_yaml_reads_as_people_write_it(write: Write) -> None:
    text = (
        GOOD.replace("name: tickets", "name: 2024-01-01")
        + "instruction: no\ntraining: {learning_rate: 2e-4}\n"
    )
    task = load_task(write(text))
    assert (task.name, task.instruction, task.training.learning_rate) == ("2024-01-01", "no", 2e-4)


def test_the_fingerprint_changes_with_settings_and_data_and_with_nothing_else(
    write: Write, tmp_path: Path
) -> None:
    text = GOOD + "knowledge: {documents: handbook}\n"
    first = load_task(write(text)).fingerprint()
    assert load_task(write("# a comment\n" + text)).fingerprint() == first
    assert load_task(write(text.replace("0.9", "0.8"))).fingerprint() != first
    (tmp_path / "handbook" / "leave.md").write_text("# Leave, changed\n")
    changed = load_task(write(text)).fingerprint()
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "c"}\n')
    assert len({first, changed, load_task(write(text)).fingerprint()}) == 3


def test_a_task_made_in_python_is_checked_too() -> None:
    with pytest.raises(ValidationError, match="sum to 1"):
        Split(train=0.5, selection=0.5, certification=0.5)
    with pytest.raises(ValidationError, match="unknown metric"):
        Task(name="t", examples=Path("x"), metric="f1", target=0.9)
