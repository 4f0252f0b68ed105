"""Re-score a first-stage run through the queue, and compare and evaluate runs.

- `input_files`, `staging`, `loading`: a collection, checked and staged on disk
- `session`, `runner`, `in_flight`: its jobs, sent and collected
- `journal`, `manifest`, `resume`: results as they arrive, and how an interrupted run goes on
- `output_files`, `evaluation`, `comparison`: what is made of the results
"""
