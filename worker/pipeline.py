"""The former place of the pipeline step of `worker.inprocess`, which goes on working."""

from worker.inprocess.pipeline import PipelineSettings, rerank_step

__all__ = ["PipelineSettings", "rerank_step"]
