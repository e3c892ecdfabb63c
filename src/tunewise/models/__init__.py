"""One door to language models: endpoint, local weights, the embedded model, a scripted one."""
