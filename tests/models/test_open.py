"""What a task names opens the door that it means."""

import sys
from pathlib import Path

import pytest

from tunewise.errors import SettingError
from tunewise.models.endpoint import EndpointDoor
from tunewise.models.open import open_door
from tunewise.models.scripted import ScriptedDoor
from tunewise.task import EndpointSpec, ScriptedSpec

ENDPOINT = EndpointSpec(endpoint="http://127.0.0.1:9", name="m")
SCRIPTED = ScriptedSpec(scripted="tunewise.models.mock_server:echo")


def test_endpoints_and_scripts_open_their_doors() -> None:
    door = open_door(ENDPOINT)
    assert isinstance(door, EndpointDoor)
    door.close()
    assert isinstance(open_door(SCRIPTED), ScriptedDoor)


@pytest.mark.parametrize("spec", [ENDPOINT, SCRIPTED])
def test_an_adapter_goes_on_local_weights_only(spec: EndpointSpec | ScriptedSpec, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="adapter needs local weights"):
        open_door(spec, adapter=tmp_path)


def test_local_weights_without_their_extra_name_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("torch", "transformers", "safetensors", "tokenizers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SettingError, match=r"pip install .tunewise\[local\]"):
        open_door(str(tmp_path))
