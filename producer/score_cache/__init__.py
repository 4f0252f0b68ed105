"""Keep scores in a file, so that no pair is scored twice.

- `cache`: find and add scores
- `keys`: the key of a pair
- `maintenance`: measure and prune the file
- `database`: open the file, and translate its errors
- `read_ahead`: have the file read before its pages are needed one by one
"""
