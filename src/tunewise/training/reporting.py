"""Trackers that transformers, and so TRL, can report a training to: wandb, tensorboard, trackio and others.

They get what TRL logs: loss, rate and gradient norm of every step. MLflow has an exporter of our own
(``tunewise.tracking``), which knows the figures of the whole run.
"""

from collections.abc import Sequence

from tunewise.errors import SettingError


def known_reporters(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` when transformers can report to each here, else SettingError with those it can. Heavy."""
    from transformers.integrations import integration_utils as integrations

    known = sorted(integrations.INTEGRATION_TO_CALLBACK)
    available = sorted(integrations.get_available_reporting_integrations())  # type: ignore[no-untyped-call]
    for name in names:
        if name not in known:
            raise SettingError(f"--report-to: unknown tracker {name!r}; there are {', '.join(known)}")
        if name not in available:
            found = f"installed here: {', '.join(available)}" if available else "none is installed here"
            raise SettingError(f"--report-to: {name} is not installed ({found}). Run: pip install {name}")
    return tuple(names)
