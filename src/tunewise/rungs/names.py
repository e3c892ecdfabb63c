"""Names and weights of the rungs, for whoever must not load what builds them."""

# Weight: what a rung costs to build, run and keep up, on a scale that only orders.
WEIGHTS = {"zero-shot": 1, "few-shot": 2, "few-shot-nearest": 3, "constrained": 3.5, "rag": 4, "lora": 6}

# Rungs whose candidate holds train rows: an overlap of train with certification blocks them.
LEARNS_FROM_ROWS = ("few-shot", "few-shot-nearest", "lora")

NOT_YET = ("qlora", "full", "distilled", "cpt-sft", "rag-lora")
