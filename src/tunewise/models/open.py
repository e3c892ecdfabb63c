"""From what a task names to an open door."""

from pathlib import Path
from typing import Literal

from tunewise.errors import SettingError
from tunewise.models.door import Door
from tunewise.task import EndpointSpec, ScriptedSpec


def open_door(
    spec: str | EndpointSpec | ScriptedSpec,
    *,
    adapter: Path | None = None,
    usd_per_hour: float | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
) -> Door:
    """Open the model that a task names: ``embedded``, a folder, a hub id, an endpoint or a scripted one.

    adapter: folder of a LoRA adapter, or of a whole model tuned from this one, for local weights only.
    usd_per_hour: what the machine that runs local weights costs. precision: of local weights' products on a
    CPU; a whole tuned model, whose weights do not fit into bf16, answers in fp32. Raises SettingError when
    the model cannot be used as asked, and when local weights are asked for without the extra that runs them.
    """
    if isinstance(spec, str):
        from tunewise.models.embedded import embedded_folder
        from tunewise.models.local import LocalDoor

        if adapter is not None and (adapter / "config.json").is_file():  # a model needs no base to answer
            return LocalDoor(adapter, name=f"{spec}, tuned", usd_per_hour=usd_per_hour)
        folder = embedded_folder() if spec == "embedded" else spec
        return LocalDoor(folder, adapter=adapter, name=spec, usd_per_hour=usd_per_hour, precision=precision)
    if adapter is not None:
        what = spec.endpoint if isinstance(spec, EndpointSpec) else spec.scripted
        raise SettingError(
            f"an adapter needs local weights, and {what} has none here; name a folder, a hub id or "
            "'embedded' as `tune.model`"
        )
    if isinstance(spec, EndpointSpec):
        from tunewise.models.endpoint import EndpointDoor

        return EndpointDoor(spec)
    from tunewise.models.scripted import ScriptedDoor

    return ScriptedDoor(spec.scripted)
