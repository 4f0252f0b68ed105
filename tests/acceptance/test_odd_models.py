"""A worker with an unusable model ends with one line; an unusable allowed model fails its jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.errors import JobFailed
from contract.settings import Settings
from producer.client.blocking import RerankClient
from tests.acceptance.conftest import BUNDLED, environment_of
from tests.processes import celery, end, wait_until

QUERY = "edit mp3 tags from the terminal"
DOCUMENTS = ["a mail client", "a command line editor for ID3 tags of MP3 files " * 30]


def ended(settings: Settings, log: Path, **environment: str) -> str:
    """Start a worker that ends by itself, with exit code 69; return the last line of its log."""
    arguments = ("worker", "--concurrency", "1", "-n", settings.namespace)
    environment = environment_of(settings, BUNDLED) | environment
    with celery(*arguments, log=log, environment=environment) as process:
        wait_until(lambda: process.poll() is not None, "the worker has ended")
        assert end(process) == 69
    said = log.read_text()
    assert "Traceback" not in said
    assert "trust_remote_code" not in said
    assert "LOAD REPORT" not in said
    return said.splitlines()[-1]


def test_a_worker_with_a_bad_model_ends_in_one_line(settings: Settings, tmp_path: Path) -> None:
    from tests.unit import odd_models  # imports torch, which other test processes do not need

    path = odd_models.remote_code(tmp_path / "bad")
    line = ended(settings, tmp_path / "worker.log", CROSS_ENCODER_MODEL=path)
    assert f"The worker stops (exit code 69): model {path!r} cannot be used: " in line
    assert "rerankq runs no code of a model. Way out: " in line


def test_a_worker_with_a_bad_downgrade_model_of_ones_choice_ends_too(
    settings: Settings, tmp_path: Path
) -> None:
    from tests.unit import odd_models

    path = odd_models.headless_as_classifier(tmp_path / "bad")
    line = ended(settings, tmp_path / "worker.log", RERANKQ_DOWNGRADE_MODEL=path)
    assert f"model {path!r} cannot be used: " in line


def test_a_worker_that_is_to_read_more_than_its_model_can_ends_too(
    settings: Settings, tmp_path: Path
) -> None:
    line = ended(settings, tmp_path / "worker.log", RERANKQ_MAX_LENGTH="1024")
    assert "'bundled' reads at most 512 tokens, and RERANKQ_MAX_LENGTH asks for 1024" in line


def test_a_bad_model_among_those_allowed_fails_its_jobs_alone(
    settings: Settings, tmp_path: Path
) -> None:
    from tests.unit import odd_models, tiny_models

    # Given a worker that allows two more models, one of them without a head, the other short
    bad = odd_models.headless_as_nothing(tmp_path / "bad")
    short = tiny_models.bert(tmp_path / "short", max_position_embeddings=32)
    settings = Settings.load(
        redis_url=settings.redis_url.get_secret_value(),
        namespace=settings.namespace,
        allowed_models=f"{bad},{short}",
    )
    arguments = ("worker", "--concurrency", "1", "-n", settings.namespace)
    environment = environment_of(settings, BUNDLED) | {"RERANKQ_MAX_LENGTH": "64"}
    with (
        celery(*arguments, log=tmp_path / "worker.log", environment=environment),
        RerankClient(settings) as client,
    ):
        for model in (bad, f"{bad}@int8"):
            # When it gets a job for the first one, then that job fails, each time
            with pytest.raises(JobFailed, match=r"lack classifier\.bias") as failed:
                client.rerank(QUERY, DOCUMENTS, model=model, timeout=90)
            assert failed.value.failure.code == "model_unavailable"
            # And others continue, with the configured length, or as much as the model can read
            made = client.rerank(QUERY, DOCUMENTS, timeout=90).provenance
            assert (made.max_length, made.truncated) == (64, 1)
        made = client.rerank(QUERY, DOCUMENTS, model=short, timeout=90).provenance
        assert (made.max_length, made.truncated) == (32, 1)
