"""Open, read and replace files of any content.

- `reading`: the lines of an input, through `compression` and `file_types`
- `remote`: inputs that are read through fsspec, such as `s3://` and `https://`
- `outputs`: files that are replaced in one step, by one process at a time
- `output_locks`: the process that writes an output, and others that would; `lock_holders`
- `file_systems`: recognize network file systems
- `streams`: outputs that are written directly: open files, devices, named pipes
- `conflicts`: checks that a command does not write to its inputs
- `quoting`: file names and ids in messages
"""
