"""Finding passages: documents, chunks, BM25, dense vectors, and how two rankings become one."""
