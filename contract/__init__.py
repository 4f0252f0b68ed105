"""What crosses the wire between producers and workers: records, names, limits, errors, store."""
