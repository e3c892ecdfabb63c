"""Training on TRL and PEFT: rows and masks, packing, the recipe, checkpoints, what makes a run trusted.

Nothing heavy is imported before a run starts: torch, transformers, peft and trl load inside functions.
"""
