"""Nothing half-written is ever taken for whole."""

import json
import shutil

import pytest

from tunewise.errors import RunError, StoreError
from tunewise.training import checkpoints


def fill(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_bytes(b"w" * 100)
    (folder / "state.json").write_text("{}", encoding="utf-8")


def whole(folder):
    fill(folder)
    checkpoints.mark_whole(folder)
    return folder


def test_a_folder_is_whole_only_with_its_mark(tmp_path):
    fill(tmp_path / "checkpoint-1")
    assert not checkpoints.is_whole(tmp_path / "checkpoint-1")
    assert checkpoints.is_whole(whole(tmp_path / "checkpoint-2"))


@pytest.mark.parametrize("harm", ["cut", "changed", "removed"])
def test_a_harmed_checkpoint_is_passed_over_for_the_one_before(tmp_path, harm):
    whole(tmp_path / "checkpoint-9")
    last = whole(tmp_path / "checkpoint-10")
    assert checkpoints.newest_whole(tmp_path) == last
    weights = last / "weights"
    if harm == "removed":
        weights.unlink()
    else:
        weights.write_bytes(b"w" * 50 if harm == "cut" else b"x" * 100)
    assert checkpoints.newest_whole(tmp_path) == tmp_path / "checkpoint-9"


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoints.newest_whole(tmp_path / "absent") is None
    whole(tmp_path / "checkpoint-final")
    assert checkpoints.newest_whole(tmp_path) is None


def test_prune_keeps_the_last_by_step_not_by_name(tmp_path):
    for step in (9, 100, 20):
        whole(tmp_path / f"checkpoint-{step}")
    checkpoints.prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-100", "checkpoint-20"]


def test_publish_puts_all_or_leaves_what_was_there(tmp_path):
    place = whole(tmp_path / "adapter")

    def fail(folder):
        (folder / "weights").write_bytes(b"new")
        raise OSError("no space left")

    with pytest.raises(StoreError, match="no space left"):
        checkpoints.publish(place, fail)
    assert checkpoints.is_whole(place)
    assert (place / "weights").read_bytes() == b"w" * 100
    checkpoints.publish(place, lambda folder: (folder / "weights").write_bytes(b"new"))
    assert (place / "weights").read_bytes() == b"new"
    assert checkpoints.is_whole(place)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_begin_keeps_a_run_with_the_same_settings_and_clears_another(tmp_path):
    settings = {"base": "a", "recipe": {"epochs": 3, "rank": 8}}
    assert checkpoints.begin(tmp_path, settings) == []
    whole(tmp_path / "work" / "steps" / "checkpoint-4")
    assert checkpoints.begin(tmp_path, settings) == []
    assert (tmp_path / "work" / "steps" / "checkpoint-4").is_dir()
    said = checkpoints.begin(tmp_path, {"base": "a", "recipe": {"epochs": 2, "rank": 8}})
    assert said == ["recipe.epochs: 3 before, 2 now"]
    assert not (tmp_path / "work").exists()


def test_begin_keeps_what_others_settings_made_when_it_is_told_to_refuse(tmp_path):
    settings = {"base": "a", "recipe": {"epochs": 3, "rank": 8}}
    assert checkpoints.begin(tmp_path, settings, refuse=True) == []
    step = whole(tmp_path / "work" / "steps" / "checkpoint-4")
    with pytest.raises(RunError, match=r"(?s)recipe\.epochs: 3 before, 2 now.*--out"):
        checkpoints.begin(tmp_path, {"base": "a", "recipe": {"epochs": 2, "rank": 8}}, refuse=True)
    assert checkpoints.is_whole(step)
    assert checkpoints.begin(tmp_path, settings, refuse=True) == []
    (tmp_path / "settings.json").write_text('{"base": ', encoding="utf-8")
    with pytest.raises(RunError, match="missing or cut short"):
        checkpoints.begin(tmp_path, settings, refuse=True)
    assert checkpoints.is_whole(step)


def test_a_launch_may_change_only_when_no_step_is_left(tmp_path):
    one, two = {"base": "a", "launch": checkpoints.ALONE}, {"base": "a", "launch": "2 processes, ddp"}
    checkpoints.begin(tmp_path, one)
    step = whole(tmp_path / "work" / "steps" / "checkpoint-4")
    with pytest.raises(RunError, match="launch: one process before, 2 processes, ddp now"):
        checkpoints.begin(tmp_path, two, refuse=True)
    assert checkpoints.is_whole(step)
    assert checkpoints.begin(tmp_path, {"base": "a"}, refuse=True) == []  # as earlier versions wrote it
    checkpoints.write_json(tmp_path / "work" / "trained.json", {"steps": 4})
    assert checkpoints.begin(tmp_path, two, refuse=True) == []
    assert checkpoints.changes(one, two) == []


@pytest.mark.parametrize(
    ("now", "says"),
    [
        ("new:1 a:2 b:3 c:4", "1 new (rows:1)"),
        ("a:1 other:2 c:3", "1 changed (rows:2)"),
        ("a:1 c:2", "1 gone (rows:2)"),
        ("a:1 b:2 c:3 a:4", "1 new (rows:4)"),
        ("x:1 b:2 y:3 z:4", "2 changed (rows:1, rows:3), 1 new (rows:4)"),
        ("b:1 a:2 c:3", "the same rows in another order"),
    ],
)
def test_changed_rows_are_told_by_their_places(now, says):
    before, after = (
        [[digest, f"rows:{line}"] for digest, line in (word.split(":") for word in words.split())]
        for words in ("a:1 b:2 c:3", now)
    )
    known = {"train_rows": "1", "train_row_places": before}
    assert checkpoints.changes(known, {"train_rows": "2", "train_row_places": after}) == [
        f"train_rows: {says}"
    ]


def test_rows_that_moved_or_that_an_earlier_version_did_not_place_are_no_change():
    before, now = ({"train_rows": "1", "train_row_places": [["a", place]]} for place in ("rows:1", "rows:2"))
    assert checkpoints.changes(before, now) == []
    assert checkpoints.changes({"train_rows": "1"}, now) == []
    assert checkpoints.changes({"train_rows": "2"}, now) == ["train_rows: other rows than before"]


def test_other_library_versions_throw_nothing_away_and_are_told_of_while_a_run_is_unfinished(tmp_path):
    settings, newer = (
        {"base": "a", "versions": {"torch": "2.9"}},
        {"base": "a", "versions": {"torch": "2.10"}},
    )
    checkpoints.begin(tmp_path, settings)
    assert checkpoints.versions_changed(tmp_path, newer) == []  # nothing was trained yet
    whole(tmp_path / "work" / "steps" / "checkpoint-4")
    assert checkpoints.begin(tmp_path, newer, refuse=True) == []
    assert checkpoints.versions_changed(tmp_path, newer) == ["torch: 2.9 before, 2.10 now"]
    whole(tmp_path / "adapter")
    checkpoints.write_json(tmp_path / "done.json", {"steps": 4})
    assert checkpoints.versions_changed(tmp_path, newer) == []


def test_a_run_whose_settings_cannot_be_read_is_cleared(tmp_path):
    checkpoints.begin(tmp_path, {"base": "a"})
    whole(tmp_path / "adapter")
    (tmp_path / "settings.json").write_text('{"base": ', encoding="utf-8")
    checkpoints.begin(tmp_path, {"base": "a"})
    assert not (tmp_path / "adapter").exists()


def test_a_build_is_finished_only_with_its_last_file_and_a_whole_adapter(tmp_path):
    assert checkpoints.finished(tmp_path) is None
    whole(tmp_path / "adapter")
    assert checkpoints.finished(tmp_path) is None
    checkpoints.write_json(tmp_path / "done.json", {"steps": 4})
    assert checkpoints.finished(tmp_path) == {"steps": 4}
    (tmp_path / "adapter" / "weights").write_bytes(b"cut")
    assert checkpoints.finished(tmp_path) is None


def test_what_vouches_for_files_is_written_whole(tmp_path):
    checkpoints.write_json(tmp_path / "a.json", {"n": 1})
    checkpoints.write_json(tmp_path / "a.json", {"n": 2})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"n": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    shutil.rmtree(tmp_path)
    (tmp_path).write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(StoreError, match=r"a\.json could not be written"):
        checkpoints.write_json(tmp_path / "a.json", {"n": 3})
    tmp_path.unlink()
    tmp_path.mkdir()
