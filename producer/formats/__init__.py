"""Parse the files that people have, one record a line.

One file per kind, with one reader each:

- `corpus`: documents and queries, as JSONL or tab-separated columns
- `trec_run`: first-stage runs
- `qrels`: relevance judgments
- `requests`: a query with its documents in each line (`reranker_requests`: those of others)
- `documents`: the documents of one query

A reader yields each record with its line number, through `records.read_records`: a line that is
wrong raises `InvalidInput` as `file:line: what`, or is counted and skipped if `InvalidLines` says
so. Files may be compressed, whatever their names, and `-` is standard input: see
`producer.files.reading`.

A new kind of file is a new module here, and a member of `detection.FileKind`, which recognises a
file that was given for another. `keys`, `columns` and `values` parse what the kinds share.
"""
