"""The ways to adapt a model, one file each; ``order.py`` holds the list from light to heavy."""
