"""Estimate against measured, kept and used again."""

import pytest

from tunewise.estimation.calibration import Record, calibration_file, correction, read_records, record


def run(measured: float, model: str = "M", method: str = "lora", device: str = "cpu", **more) -> Record:
    return Record("train", model, method, "hf", device, 2.0, measured, **more)


def test_records_are_appended_to_the_user_s_folder_and_read_back(own_home):
    assert record(run(2.2, estimated_seconds=1.0, measured_seconds=1.5)) is None
    assert record(run(2.4)) is None
    assert calibration_file().parent == own_home
    found = read_records()
    assert [one.measured_gib for one in found] == [2.2, 2.4]
    assert found[0].at.endswith("+00:00")


def test_the_correction_is_the_median_ratio_of_the_same_model_and_says_so():
    found = correction("M", "lora", "hf", "cpu", [run(2.0), run(2.2), run(3.0), run(8.0, model="N")])
    assert found.memory == pytest.approx(1.1)
    assert found.runs == 3
    assert "3 measured runs of M, lora on cpu: memory x 1.100" in found.said


def test_another_model_s_runs_of_the_same_method_serve_when_there_are_none_of_its_own():
    found = correction("M", "lora", "hf", "cpu", [run(2.4, model="N"), run(9.0, method="full")])
    assert found.memory == pytest.approx(1.2)
    assert "lora on hf" in found.said


def test_nothing_is_carried_over_from_another_device_or_from_absurd_ratios():
    assert correction("M", "lora", "hf", "A100 80GB", [run(2.4)]).runs == 0
    assert correction("M", "lora", "hf", "cpu", [run(200.0)]).runs == 0


def test_time_has_its_own_factor():
    timed = run(2.0, estimated_seconds=2.0, measured_seconds=3.0)
    assert correction("M", "lora", "hf", "cpu", [timed, run(2.0)]).time == 1.5
    assert correction("M", "lora", "hf", "cpu", [run(2.0)]).time == 1.0


def test_lines_that_are_no_records_are_passed_over(own_home):
    record(run(2.2))
    with calibration_file().open("a", encoding="utf-8") as file:
        file.write('{"source": "train"}\nnot json\n[1]\n{"cut sho')
    assert len(read_records()) == 1


def test_a_folder_that_cannot_be_written_is_said_and_fails_nothing(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    said = record(run(2.2), blocked / "calibration.jsonl")
    assert "could not be kept" in said
    assert read_records(blocked / "calibration.jsonl") == []
