"""A real model scores the parts of a query with the same bits as the whole."""

from __future__ import annotations

import json
from pathlib import Path

from contract.settings import Settings
from producer.client.blocking import RerankClient
from tests.command_line import rerankq

CORPUS = Path(__file__).parents[2] / "examples" / "packages" / "corpus.jsonl"


def test_scores_of_a_query_that_was_split_are_the_same_to_the_last_bit(
    service: Settings, client: RerankClient, environment: dict[str, str], tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in CORPUS.read_text().splitlines()[:90]]
    documents = [{"id": line["_id"], "text": line["text"]} for line in lines]
    documents += [{"id": f"{each['id']}-again", "text": each["text"]} for each in documents[::7]]
    query = "edit mp3 tags from the terminal"
    narrow = service.model_copy(update={"max_pairs_per_job": 40})

    whole = client.rerank(query, documents, timeout=60)
    with RerankClient(narrow) as other:
        split = other.rerank(query, documents, timeout=60)

    assert split.documents == whole.documents
    assert (split.provenance.parts, whole.provenance.parts) == (3, 1)
    assert split.rankings[0].truncated == whole.rankings[0].truncated

    # And a run of it has the same bytes
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"query_id": "q", "query": query, "candidates": documents}))
    written = []
    for name, limit in (("whole", "5000"), ("split", "40")):
        done = rerankq(
            *("rescore", "--input", str(source), "--output", str(tmp_path / name)),
            *("--results", str(tmp_path / f"{name}.jsonl")),
            environment=environment | {"RERANKQ_MAX_PAIRS_PER_JOB": limit},
        )
        assert done.returncode == 0, done.stderr
        written.append((tmp_path / name).read_bytes() + (tmp_path / f"{name}.jsonl").read_bytes())
    assert written[0] == written[1]
