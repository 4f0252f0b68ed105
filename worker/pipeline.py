"""An alias for the pipeline step in `worker.inprocess`, kept for compatibility."""

from worker.inprocess.pipeline import PipelineSettings, rerank_step

__all__ = ["PipelineSettings", "rerank_step"]
