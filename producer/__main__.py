"""`python -m producer` is `rerankq`."""

from producer.cli import main

main(prog_name="rerankq")
