"""Outcomes and the tests that read them."""
