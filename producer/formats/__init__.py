"""Parse the supported file formats, one record per line.

Each kind of file has a module with one reader:

- `corpus`: documents and queries, as JSONL or tab-separated columns
- `trec_run`: first-stage runs
- `qrels`: relevance judgments
- `requests`: a query with its documents per line (`reranker_requests`: those of other rerankers,
  `batch_lines`: those of batch files)
- `documents`: the documents of one query

A reader yields each record with its line number, through `records.read_records`. An invalid line
raises `InvalidInput` as `file:line: message`, or is counted and skipped, depending on
`InvalidLines`. Files may be compressed, regardless of their names, and `-` is standard input: see
`producer.files.reading`.

To add a kind of file, add a module here and a member of `detection.FileKind`, which recognizes
files passed to the wrong option. `keys`, `columns` and `values` parse what the kinds share.
"""
