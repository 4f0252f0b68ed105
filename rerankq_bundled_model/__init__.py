"""The weights of the model that jobs ask for as `bundled`: a distribution of their own.

Only workers install it: it is forty times as large as all the code of rerankq.
"""

from pathlib import Path

PATH = Path(__file__).parent / "rerank-tiny-en"
