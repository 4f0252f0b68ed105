"""A worker with an unusable model ends with one line; an unusable allowed model fails its jobs.

Messages for each kind of unusable model are tested in `tests/unit/test_checkpoint_checks.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.errors import JobFailed
from contract.settings import Settings
from producer.client.blocking import RerankClient
from tests import bert_files
from tests.acceptance.conftest import BUNDLED, environment_of
from tests.processes import MODEL_LIBRARIES, celery, end, wait_until
from tests.stub_models import ABSENT

QUERY = "edit mp3 tags from the terminal"
DOCUMENTS = ["a mail client", "a command line editor for ID3 tags of MP3 files " * 30]

CANNOT_BE_USED = f"Worker exiting with code 69: model {ABSENT!r} cannot be used: "
TOO_LONG = "RERANKQ_MAX_LENGTH is 1024, but model 'stub' reads at most 512 tokens"


def check_log(text: str) -> None:
    """Check that the log holds no more about a bad model than one line, and no unsafe advice."""
    assert "Traceback" not in text
    assert "trust_remote_code" not in text
    assert "LOAD REPORT" not in text


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("CROSS_ENCODER_MODEL", ABSENT, CANNOT_BE_USED),
        ("RERANKQ_DOWNGRADE_MODEL", ABSENT, CANNOT_BE_USED),
        ("RERANKQ_MAX_LENGTH", "1024", TOO_LONG),
    ],
    ids=["default model", "downgrade model", "more tokens than it can read"],
)
def test_a_worker_with_a_bad_model_ends_in_one_line(
    setting: str, value: str, reason: str, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    arguments = ("worker", "--concurrency", "1", "-n", settings.namespace)
    environment = environment_of(settings) | {setting: value}
    with celery(*arguments, log=log, environment=environment) as process:
        wait_until(lambda: process.poll() is not None, "the worker has ended")
        assert end(process) == 69
    check_log(log.read_text())
    assert reason in log.read_text().splitlines()[-1]


def test_bad_models_among_those_allowed_fail_their_jobs_alone(
    settings: Settings, tmp_path: Path
) -> None:
    # Given a worker that allows three more models: without a head, with its own code, and short
    headless = bert_files.headless(tmp_path / "headless")
    with_code = bert_files.remote_code(tmp_path / "with_code")
    short = bert_files.bert(tmp_path / "short", max_position_embeddings=32)
    settings = Settings.load(
        redis_url=settings.redis_url.get_secret_value(),
        namespace=settings.namespace,
        allowed_models=f"{headless},{with_code},{short}",
    )
    arguments = ("worker", "--concurrency", "1", "-n", settings.namespace)
    environment = environment_of(settings, BUNDLED) | {"RERANKQ_MAX_LENGTH": "64"}
    log = tmp_path / "worker.log"
    with (
        celery(*arguments, log=log, environment=environment, libraries=MODEL_LIBRARIES),
        RerankClient(settings) as client,
    ):
        for model, reason in (
            (headless, r"missing weights: classifier\.bias"),
            (with_code, r"cannot be used: .* rerankq does not run code from a model\. Set CROSS_"),
        ):
            # When it gets a job for a bad one, then that job fails, each time
            with pytest.raises(JobFailed, match=reason) as failed:
                client.rerank(QUERY, DOCUMENTS, model=model, timeout=90)
            assert failed.value.failure.code == "model_unavailable"
            # And others continue, with the configured length, or as much as the model can read
            made = client.rerank(QUERY, DOCUMENTS, timeout=90).provenance
            assert (made.max_length, made.truncated) == (64, 1)
        made = client.rerank(QUERY, DOCUMENTS, model=short, timeout=90).provenance
        assert (made.max_length, made.truncated) == (32, 1)
    check_log(log.read_text())
