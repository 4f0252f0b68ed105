"""Open, read and replace files, whatever they contain.

- `reading`: the lines of an input, through `compression` and `file_types`
- `outputs`: files that are replaced in one step, by one process at a time
- `streams`: outputs that are written as they are: open files, devices, named pipes
- `conflicts`: whether a command would write to what it reads
- `quoting`: file names and ids in messages
"""
