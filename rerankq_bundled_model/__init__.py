"""The weights of the model `bundled`, as a separate distribution.

Only workers install it, because it is forty times as large as all the code of rerankq.
"""

from pathlib import Path

PATH = Path(__file__).parent / "rerank-tiny-en"
