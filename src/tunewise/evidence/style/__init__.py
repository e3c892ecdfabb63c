"""How far a text speaks with a given voice: classifier, position, Delta, surface rules, drift.

Texts of the base model are passed in; nothing here reaches a model.
"""

from tunewise.evidence.style.conversation import Turn, drift, slope
from tunewise.evidence.style.rules import SurfaceRules
from tunewise.evidence.style.voice import Interval, Voice, VoiceText, measure_outputs

__all__ = ["Interval", "SurfaceRules", "Turn", "Voice", "VoiceText", "drift", "measure_outputs", "slope"]
