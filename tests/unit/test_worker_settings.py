"""A worker's settings come from the environment; inconsistent ones are refused."""

from __future__ import annotations

import os

import pytest
from pydantic import ValidationError

from contract.errors import InvalidInput
from contract.models import DEFAULT_MODEL, KNOWN_MODELS
from worker.runtime import gpus
from worker.runtime.settings import WorkerSettings, cores


def load(**given: object) -> WorkerSettings:
    settings: WorkerSettings = WorkerSettings.load(**given)
    return settings


def test_the_defaults_work_together() -> None:
    settings = load()
    assert settings.device == "cpu"
    assert settings.threads is None
    assert settings.max_batch_tokens is None
    assert settings.max_length is None
    assert settings.dtype is None
    assert settings.max_attempts == 4
    assert settings.model_load_timeout_s == 300
    assert (settings.lease_s, settings.sweep_every_s, settings.resend_after_s) == (30, 10, 60)
    limits = (settings.soft_time_limit_s, settings.time_limit_s, settings.visibility_timeout_s)
    assert limits == (600, 660, 900)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", 3),
        ("max_models", 5),
        ("max_batch_tokens", 4_096),
        ("soft_time_limit_s", 10),
        ("time_limit_s", 700),
        ("max_attempts", 2),
        ("model_load_timeout_s", 60),
        ("lease_s", 0.5),
        ("sweep_every_s", 2.5),
        ("resend_after_s", 7),
    ],
)
def test_each_number_is_read_from_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    monkeypatch.setenv(f"RERANKQ_{name.upper()}", str(value))
    assert getattr(load(), name) == value


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:12", "mps"])
def test_devices_of_torch_are_taken(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setenv("RERANKQ_DEVICE", device)
    assert load().device == device


@pytest.mark.parametrize("device", ["gpu", "auto", "CPU", "cuda:", "cuda:one", "cpu:0", "cpu\n"])
def test_a_device_is_never_guessed(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setenv("RERANKQ_DEVICE", device)
    with pytest.raises(InvalidInput, match="RERANKQ_DEVICE"):
        load()


# Lengths


def test_each_model_may_have_a_maximum_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "RERANKQ_MODEL_MAX_LENGTHS", "bundled=256, org/name = 8192, org/name@v1=64,stub:scale=2=32,"
    )
    settings = load(max_length=128, allowed_models="org/name,org/name@v1,stub:scale=2,bundled")
    expected = {
        "bundled": 256,
        "org/name": 8192,
        "org/name@v1": 64,
        "org/name@v2": 8192,
        "stub:scale=2": 32,
        "other": None,
    }
    assert {model: settings.own_max_length(model) for model in expected} == expected


@pytest.mark.parametrize("value", ["bundled", "=64", "bundled=", "bundled=7", "bundled=1.5", "a=x"])
def test_a_length_of_a_model_that_does_not_parse_is_refused_with_the_form(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("RERANKQ_MODEL_MAX_LENGTHS", value)
    with pytest.raises(
        InvalidInput, match=r"^invalid setting RERANKQ_MODEL_MAX_LENGTHS: must be MODEL=NUMBER,"
    ):
        load(allowed_models="bundled,a")


def test_a_length_of_a_model_that_no_job_may_request_is_refused() -> None:
    with pytest.raises(InvalidInput, match="MODEL_MAX_LENGTHS names 'bundle', which is not a mod"):
        load(model_max_lengths={"bundle": 64})
    load(model_max_lengths={"mine": 64}, cross_encoder_model="mine@v1")
    load(model_max_lengths={"mine": 64}, downgrade_model="mine")


# Precision


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_gpu_takes_any_precision(
    monkeypatch: pytest.MonkeyPatch, device: str, dtype: str
) -> None:
    monkeypatch.setenv("RERANKQ_DEVICE", device)
    monkeypatch.setenv("RERANKQ_DTYPE", dtype)
    assert load().dtype == dtype


def test_a_cpu_takes_single_precision() -> None:
    assert load(dtype="float32").dtype == "float32"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_on_a_cpu_is_refused_with_what_is_faster(dtype: str) -> None:
    with pytest.raises(
        InvalidInput,
        match=rf"^invalid settings: RERANKQ_DTYPE={dtype} is several times slower than float32"
        r".*RERANKQ_DEVICE=cuda",
    ):
        load(dtype=dtype)


@pytest.mark.parametrize("dtype", ["int8", "half", "fp16", "FLOAT32", "torch.float16", "float64"])
def test_a_precision_that_is_none_is_refused_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setenv("RERANKQ_DEVICE", "cuda")
    monkeypatch.setenv("RERANKQ_DTYPE", dtype)
    with pytest.raises(InvalidInput, match="setting RERANKQ_DTYPE: "):
        load()


# Numbers


@pytest.mark.parametrize(
    "name",
    [
        "threads",
        "max_batch_tokens",
        "soft_time_limit_s",
        "time_limit_s",
        "max_attempts",
        "model_load_timeout_s",
        "lease_s",
        "sweep_every_s",
        "resend_after_s",
    ],
)
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_a_number_that_makes_no_sense_is_refused_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"RERANKQ_{name.upper()}", value)
    with pytest.raises(InvalidInput, match=f"setting RERANKQ_{name.upper()}: "):
        load()


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANKQ_MAX_BATCH_TOKENS", "100")
    assert load(max_batch_tokens=200).max_batch_tokens == 200
    assert load(max_batch_tokens=None).max_batch_tokens == 100


def test_the_model_is_the_argument_then_the_environment_then_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load().cross_encoder_model == DEFAULT_MODEL
    monkeypatch.setenv("CROSS_ENCODER_MODEL", "bundled")
    assert load().cross_encoder_model == "bundled"
    assert load(cross_encoder_model="/models/mine").cross_encoder_model == "/models/mine"


@pytest.mark.parametrize(
    ("soft_s", "hard_s", "visible_s"),
    [(660, 660, 900), (700, 660, 900), (600, 900, 900), (600, 950, 900)],
)
def test_a_message_is_not_delivered_again_while_its_job_may_run(
    soft_s: int, hard_s: int, visible_s: int
) -> None:
    with pytest.raises(InvalidInput, match=r"RERANKQ_SOFT_TIME_LIMIT_S .* must be less"):
        load(soft_time_limit_s=soft_s, time_limit_s=hard_s, visibility_timeout_s=visible_s)


def test_limits_that_do_not_fit_together_are_not_blamed_on_a_variable_without_a_name() -> None:
    with pytest.raises(InvalidInput) as caught:
        load(soft_time_limit_s=700)
    assert "RERANKQ_:" not in str(caught.value)
    assert "Value error" not in str(caught.value)


def test_settings_do_not_change() -> None:
    settings = load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.threads = 5  # type: ignore[misc]


# Downgrading


@pytest.mark.parametrize(
    ("model", "chosen", "downgrade_to"),
    [
        pytest.param(DEFAULT_MODEL, None, KNOWN_MODELS[0], id="the smallest"),
        pytest.param("/models/mine", None, KNOWN_MODELS[0], id="whatever the model is"),
        pytest.param("bundled", None, "bundled", id="the bundled one is as small"),
        pytest.param("stub:scale=2", None, "stub:scale=2", id="a stub has no smaller one"),
        pytest.param("stub", "stub:scale=2", "stub:scale=2", id="chosen for a stub"),
        pytest.param("bundled", "/models/less", "/models/less", id="chosen for the bundled one"),
        pytest.param("bundled", KNOWN_MODELS[0], KNOWN_MODELS[0], id="chosen, though the default"),
        pytest.param(DEFAULT_MODEL, "/models/less", "/models/less", id="chosen"),
        pytest.param(DEFAULT_MODEL, "none", None, id="none"),
        pytest.param("bundled", "none", None, id="none for the bundled one"),
    ],
)
def test_the_downgrade_model_is_the_one_chosen_or_the_smallest(
    monkeypatch: pytest.MonkeyPatch, model: str, chosen: str | None, downgrade_to: str | None
) -> None:
    if chosen is not None:
        monkeypatch.setenv("RERANKQ_DOWNGRADE_MODEL", chosen)
    settings = load(cross_encoder_model=model)
    assert settings.downgrade_to == downgrade_to
    assert settings.downgrade_is_chosen == (chosen is not None)


# Children and threads


def test_there_is_a_core_and_no_more_than_the_machine_has() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_by_default_each_core_has_a_child_of_one_thread() -> None:
    settings = load()
    assert settings.default_concurrency == cores()
    assert settings.threads_among(settings.default_concurrency) == 1


@pytest.mark.parametrize("children", [1, 2, 3, 1_000])
def test_children_share_the_cores_and_never_have_less_than_one_thread(children: int) -> None:
    threads = load().threads_among(children)
    assert threads >= 1
    assert threads == 1 or threads * children <= cores()


def test_a_single_child_has_all_cores() -> None:
    assert load().threads_among(1) == cores()


@pytest.mark.parametrize("children", [1, 7])
def test_threads_that_were_set_are_the_threads_of_each_child(children: int) -> None:
    assert load(threads=3).threads_among(children) == 3


def test_children_of_several_threads_are_as_many_as_the_cores_allow() -> None:
    assert load(threads=1).default_concurrency == cores()
    assert load(threads=cores()).default_concurrency == 1
    assert load(threads=cores() * 2).default_concurrency == 1


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_child_on_a_gpu_scores_in_one_thread_and_tokenizes_in_its_share_of_the_cores(
    device: str,
) -> None:
    settings = load(device=device)
    assert settings.threads_among(1) == 1
    assert settings.tokenizer_threads_among(1) == cores()
    assert settings.tokenizer_threads_among(10 * cores()) == 1
    assert load(device=device, threads=3).threads_among(1) == 3


def test_each_gpu_has_two_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,3")
    assert load(device="cuda").default_concurrency == gpus.children("cuda", 3, cores())
    assert load(device="cuda:1").default_concurrency == gpus.children("cuda:1", 3, cores())
    assert load(device="mps").default_concurrency == 1


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ({}, 2),
        ({"downgrade_model": "none"}, 1),
        ({"allowed_models": DEFAULT_MODEL}, 1),
    ],
)
def test_too_few_models_for_those_that_jobs_may_name_are_refused(
    given: dict[str, str], number: int
) -> None:
    message = rf"RERANKQ_MAX_MODELS \({number}\) leaves no room for a model that a job names"
    with pytest.raises(InvalidInput, match=message):
        load(max_models=number, **given)
    assert load(max_models=number + 1, **given).max_models == number + 1


def test_one_model_is_enough_if_jobs_name_no_other() -> None:
    assert load(max_models=1, allowed_models=DEFAULT_MODEL, downgrade_model="none").max_models == 1
