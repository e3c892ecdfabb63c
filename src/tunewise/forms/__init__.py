"""Declared forms of an output, compiled once and checked against any text: JSON Schema, XSD, Markdown, ...

Nothing here scores: a form says whether a text has it, and where and why not, in words fit for the report.
The metrics of the same names (``tunewise.evidence.metrics``) turn that into scores.
"""

from tunewise.forms.spec import OutputSpec

__all__ = ["OutputSpec"]
