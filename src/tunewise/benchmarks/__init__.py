"""General benchmarks: what a model could do before it was tuned, and can still do after."""
