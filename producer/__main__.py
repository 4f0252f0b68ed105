"""Run `rerankq` as `python -m producer`."""

from producer.cli import main

main(prog_name="rerankq")
