"""Names and weights of the rungs, for whoever must not load what builds them."""

# Weight: what a rung costs to build, run and keep up, on a scale that only orders.
WEIGHTS = {
    "zero-shot": 1,
    "few-shot": 2,
    "few-shot-nearest": 3,
    "constrained": 3.5,
    "rag": 4,
    "lora": 6,
    "qlora": 7,
    "full": 8,
    "distilled": 9,
    "cpt-sft": 10,
    "rag-lora": 11,
}

# Rungs whose candidate holds train rows: an overlap of train with certification blocks them.
LEARNS_FROM_ROWS = (
    "few-shot",
    "few-shot-nearest",
    "lora",
    "qlora",
    "full",
    "distilled",
    "cpt-sft",
    "rag-lora",
)

# Rungs that train weights with a method of the same name. ``qlora`` stands in for ``lora`` and ``full``
# costs many times as much disk, so these two run when they are named (--rungs, tune.method), not on every
# climb.
TUNED = ("lora", "qlora", "full")
