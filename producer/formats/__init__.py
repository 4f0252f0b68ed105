"""Read corpora, queries, runs, qrels and request lines."""
