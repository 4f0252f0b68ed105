"""The worker, which runs the models: `rerankq worker` scores jobs, `rerankq flower` shows them.

`worker.inprocess.CrossEncoderReranker` runs the same models in the caller's own process.
"""
