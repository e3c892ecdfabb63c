"""Outputs that exist already -> figures with intervals: ``tunewise score`` and ``score --compare``."""
