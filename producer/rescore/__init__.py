"""Re-score a first-stage run through the queue, and compare and evaluate runs.

- `input_files`, `staging`, `loading`: check a collection and stage it on disk
- `session`, `runner`, `in_flight`: send its jobs and collect their outcomes
- `journal`, `manifest`, `resume`: store results as they arrive, and resume an interrupted run
- `output_files`, `evaluation`, `comparison`: write, evaluate and compare the results
"""
