"""What owns the model: `rerankq worker` scores jobs, `rerankq flower` shows them.

`worker.inprocess.CrossEncoderReranker` is the same model in the caller's own process.
"""
