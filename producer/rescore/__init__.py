"""Re-score a first-stage run through the queue, and compare and evaluate runs."""
