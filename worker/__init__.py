"""What owns the model: `celery -A worker worker` scores jobs, `celery -A worker flower` shows them.

`worker.reranker.CrossEncoderReranker` is the same model in the caller's own process.
"""
