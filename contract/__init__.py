"""The contract between producers and workers: records, names, limits, errors and the store."""
