"""The decision framework on paper: rules with reasons, no model called."""
