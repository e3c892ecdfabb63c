"""The catalogue of GPUs: complete, plausible, overridable, and refusing what a GPU cannot do."""

from pathlib import Path

import pytest

from tunewise.errors import SettingError
from tunewise.estimation.hardware import find_gpu, gpu_of_device, load_hardware, refuse_format, this_cpu


def test_the_catalogue_has_at_least_25_gpus_each_with_plausible_figures():
    catalogue = load_hardware()
    assert len(catalogue) >= 25
    assert len({gpu.name for gpu in catalogue}) == len(catalogue)
    for gpu in catalogue:
        assert 0.7 * gpu.memory_gib < gpu.usable_gib <= gpu.memory_gib, gpu.name
        assert 0.3 < gpu.reachable <= 1, gpu.name
        assert 20 <= gpu.tflops <= 3000, gpu.name
        assert 250 <= gpu.bandwidth_gb_s <= 8000, gpu.name
        assert gpu.specs, gpu.name


def test_every_price_is_an_ordered_range_with_date_and_source():
    priced = [gpu for gpu in load_hardware() if gpu.price is not None]
    assert len(priced) >= 20
    for gpu in priced:
        assert 0 < gpu.price.low <= gpu.price.expected <= gpu.price.high, gpu.name
        assert gpu.price.date.startswith("202"), gpu.name
        assert gpu.price.source, gpu.name


def test_no_alias_names_two_gpus():
    seen = {}
    for gpu in load_hardware():
        for said in (gpu.name, *gpu.aliases):
            assert find_gpu(said, load_hardware()).name == gpu.name, said
            assert seen.setdefault(said.lower(), gpu.name) == gpu.name


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("a100", "A100 80GB"),
        ("A100-40", "A100 40GB"),
        ("nvidia h100", "H100"),
        ("h100-sxm", "H100"),
        ("rtx4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("t4", "T4"),
        ("A100 80GB", "A100 80GB"),
        ("H100 96GB (HBM2e)", "H100 96GB"),
    ],
)
def test_usual_spellings_find_their_gpu(said, name):
    assert find_gpu(said, load_hardware()).name == name


def test_an_unknown_gpu_is_refused_with_the_nearest_names():
    with pytest.raises(SettingError, match=r"unknown GPU 'A1000'; nearest: .*A100"):
        find_gpu("A1000", load_hardware())


@pytest.mark.parametrize(
    ("driver", "memory", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", 79.2, "A100 80GB"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100 40GB"),
        ("NVIDIA A100 80GB PCIe", 79.2, "A100 80GB PCIe"),
        ("NVIDIA H100 80GB HBM3", 79.1, "H100"),
        ("NVIDIA H100 PCIe", 79.1, "H100 PCIe"),
        ("NVIDIA H200", 139.8, "H200"),
        ("Tesla T4", 14.6, "T4"),
        ("NVIDIA L40S", 44.4, "L40S"),
        ("NVIDIA L4", 22.1, "L4"),
        ("NVIDIA A10G", 22.1, "A10G"),
        ("NVIDIA GeForce RTX 3090", 23.6, "RTX 3090"),
    ],
)
def test_a_driver_s_name_finds_its_entry(driver, memory, name):
    assert gpu_of_device(driver, memory, load_hardware()).name == name


def test_a_t4_refuses_bf16_and_says_what_to_use():
    with pytest.raises(SettingError, match=r"T4 has no bf16: .*use fp16 there"):
        refuse_format(find_gpu("T4", load_hardware()), "bf16")
    refuse_format(find_gpu("T4", load_hardware()), "fp16")


def write(folder: Path, text: str) -> Path:
    path = folder / "hardware.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_the_user_changes_entries_and_adds_new_ones(tmp_path):
    path = write(
        tmp_path,
        "gpus:\n"
        "  - {name: T4, usd_per_hour: 0.1}\n"
        "  - {name: Mine, memory_gib: 24, tflops: 100, bandwidth_gb_s: 500}\n",
    )
    catalogue = load_hardware(path)
    assert find_gpu("T4", catalogue).price.expected == 0.1
    assert find_gpu("T4", catalogue).tflops == find_gpu("T4", load_hardware()).tflops
    assert find_gpu("mine", catalogue).usable_gib == pytest.approx(0.97 * 24)
    assert len(catalogue) == len(load_hardware()) + 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpus:\n  - {name: X, memory: 3}\n", "unknown key 'memory'; nearest: memory_gib"),
        ("gpus:\n  - {name: X, memory_gib: -3}\n", "memory_gib: expected a number above 0, got -3"),
        ("gpus:\n  - {name: X, memory_gib: 3}\n", "tflops, bandwidth_gb_s missing"),
        ("gpus:\n  - {name: T4, usd_per_hour: {low: 2, expected: 1, high: 3}}\n", "low <= expected <= high"),
        ("gpus:\n  - {name: T4, usd_per_hour: {low: 2}}\n", "expected, high missing"),
        ("gpu: []\n", "expected a list of GPUs under the key gpus"),
        ("gpus: [\n", "no YAML"),
    ],
)
def test_mistakes_of_a_hardware_file_name_file_entry_and_key(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(SettingError, match=r"hardware\.yaml") as error:
        load_hardware(path)
    assert said in str(error.value)


def test_a_price_replaces_all_ranges_and_may_be_zero_but_not_negative():
    assert {gpu.price.high for gpu in load_hardware(price=0.0)} == {0.0}
    with pytest.raises(SettingError, match="0 or more, got -1"):
        load_hardware(price=-1)


def test_this_machine_s_processor_counts_as_a_gpu_without_half_precision_or_price():
    cpu = this_cpu()
    assert find_gpu("CPU", load_hardware()) == cpu
    assert {"bf16", "fp16"} <= set(cpu.lacks)
    assert cpu.price is None
