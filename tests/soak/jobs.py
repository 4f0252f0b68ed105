"""The jobs of a soak test, and the scores that each model computes for them."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from contract import jobs
from worker.engine import load

SAMPLE = Path(__file__).parents[2] / "examples" / "packages"


def made(number: int, rng: random.Random) -> list[jobs.Job]:
    """Return jobs of one to four queries of the sample, whose long texts take a while to score."""
    queries, candidates = _sample()
    return [_job(f"soak-{n}", queries, candidates, rng) for n in range(number)]


def _job(
    job_id: str,
    queries: dict[str, str],
    candidates: dict[str, list[jobs.Candidate]],
    rng: random.Random,
) -> jobs.Job:
    return jobs.Job(
        id=job_id,
        requests=tuple(
            jobs.Request(
                query=queries[query_id],
                query_id=query_id,
                candidates=tuple(rng.sample(candidates[query_id], rng.randint(10, 40))),
            )
            for query_id in rng.sample(sorted(queries), rng.randint(1, 4))
        ),
        allow_downgrade=rng.random() < 0.8,
    )


def _sample() -> tuple[dict[str, str], dict[str, list[jobs.Candidate]]]:
    texts = {line["_id"]: line for line in _lines("corpus.jsonl")}
    queries = {line["_id"]: line["text"] for line in _lines("queries.jsonl")}
    candidates: dict[str, list[jobs.Candidate]] = {query_id: [] for query_id in queries}
    for line in (SAMPLE / "bm25.trec").read_text().splitlines():
        query_id, _, document_id, *_ = line.split()
        text = f"{texts[document_id]['title']} {texts[document_id]['text']} " * 12
        candidates[query_id].append(jobs.Candidate(id=document_id, text=text))
    return queries, candidates


def _lines(name: str) -> Iterator[dict[str, str]]:
    return map(json.loads, (SAMPLE / name).read_text().splitlines())


def real_models(folder: Path) -> tuple[str, str]:
    """Return the bundled model, and a copy of the same size with different scores."""
    from safetensors.torch import load_file, save_file  # imports torch

    from worker.engine.model_paths import bundled_path

    path = folder / "smaller"
    shutil.copytree(bundled_path(), path)
    weights = load_file(path / "model.safetensors")
    weights["classifier.bias"] += 1
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    return "bundled", str(path)


def stub_models() -> tuple[str, str]:
    """Return two stubs with different scores, which take time and memory like a model."""
    return "stub:pairs_per_s=100;bytes_per_token=16384", "stub:scale=2;bytes_per_token=4096"


class Expected:
    """Return the scores of each (query, document) by each model, exactly."""

    def __init__(self, models: Sequence[str], of: Sequence[jobs.Job]) -> None:
        pairs = sorted(
            {
                (each.query, one.text)
                for job in of
                for each in job.requests
                for one in each.candidates
            }
        )
        self._scores = {
            model: dict(
                zip(pairs, load(_without_delay(model), threads=2).score(pairs), strict=True)
            )
            for model in models
        }

    def is_of_one_model(self, job: jobs.Job, result: jobs.JobResult) -> bool:
        """Return whether all scores are those of the model that the result names."""
        scores = self._scores[result.provenance.model]
        return all(
            document.score == scores[request.query, request.candidates[document.index].text]
            for request, ranking in zip(job.requests, result.rankings, strict=True)
            for document in ranking.documents
        )

    def is_whole(self, job: jobs.Job, result: jobs.JobResult) -> bool:
        """Return whether each candidate appears once, and each ranking is in order."""
        return all(
            sorted(each.id for each in ranking.documents)
            == sorted(each.id for each in request.candidates)
            and [each.score for each in ranking.documents]
            == sorted((each.score for each in ranking.documents), reverse=True)
            for request, ranking in zip(job.requests, result.rankings, strict=True)
        )


def _without_delay(model: str) -> str:
    """Return a model with the same scores: the speed of a stub does not change them."""
    return re.sub(r"pairs_per_s=\d+;?", "", model)
