"""The in-process reranker returns the best of the results, or an error that names the model."""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from contract.errors import InvalidInput, ModelUnavailable, OutOfMemory, ScoringError
from contract.models import DEFAULT_MODEL
from contract.passages import Passage
from tests.processes import limited_memory, linux_only
from tests.unit import tiny_models
from worker.engine import load
from worker.engine.model_paths import bundled_path
from worker.inprocess import (
    CrossEncoderReranker,
    DocumentChunkMetadata,
    DocumentChunkWithScore,
    QueryResult,
    Source,
)

QUERY = "combine several pdf documents into a single file"
#: Best first, by the model's scores and a reader's judgment.
BEST = "This tool merges several PDF documents into a single file."
GOOD = "a viewer for PDF documents"
FAR = "A mail transfer agent delivers messages to local users."
TEXTS = (FAR, GOOD, BEST)

#: A lone surrogate: a str that no tokenizer accepts.
UNREADABLE = "\ud800"


def result(text: str, score: float | None = None, name: str | None = None) -> QueryResult:
    return QueryResult(chunk=DocumentChunkWithScore(chunk_id=name, text=text), score=score)


def results(*texts: str) -> list[QueryResult]:
    """Return results like those of a retriever, with descending scores."""
    return [
        result(text, score=1 - place / 1000, name=f"c{place}") for place, text in enumerate(texts)
    ]


def texts(reranked: list[QueryResult]) -> list[str]:
    return [each.chunk.text for each in reranked]


def names(reranked: list[QueryResult]) -> list[str | None]:
    return [each.chunk.chunk_id for each in reranked]


def scores(reranked: list[QueryResult]) -> list[float]:
    return [each.score for each in reranked if each.score is not None]


@pytest.fixture(scope="module")
def reranker() -> CrossEncoderReranker:
    made = CrossEncoderReranker("bundled")
    made.warm_up()
    return made


@pytest.fixture(autouse=True)
def given_settings(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what most rerankers of these tests would measure; `reranker` does measure it."""
    monkeypatch.setenv("RERANKQ_THREADS", "1")
    monkeypatch.setenv("RERANKQ_MAX_BATCH_TOKENS", "1024")


class TestInitialization:
    def test_the_default_model_is_the_published_one(self) -> None:
        assert CrossEncoderReranker().model_name == DEFAULT_MODEL
        assert DEFAULT_MODEL == "cross-encoder/ms-marco-MiniLM-L-6-v2"

    def test_the_environment_overrides_the_default_model(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CROSS_ENCODER_MODEL", "bundled")
        assert CrossEncoderReranker().model_name == "bundled"

    def test_the_argument_overrides_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CROSS_ENCODER_MODEL", "somebody/else")
        chosen = CrossEncoderReranker("bundled")
        assert chosen.model_name == "bundled"
        assert texts(chosen.rerank(QUERY, results(*TEXTS), top_k=1)) == [BEST]

    def test_a_local_path_is_a_model_name(self, tmp_path: Path) -> None:
        path = str(shutil.copytree(bundled_path(), tmp_path / "copy"))
        local = CrossEncoderReranker(path)
        assert local.model_name == path
        assert texts(local.rerank(QUERY, results(*TEXTS))) == [BEST, GOOD, FAR]

    def test_an_empty_model_name_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="CROSS_ENCODER_MODEL"):
            CrossEncoderReranker("")

    def test_a_setting_that_does_not_parse_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RERANKQ_THREADS", "many")
        with pytest.raises(InvalidInput, match="RERANKQ_THREADS"):
            CrossEncoderReranker("bundled")

    def test_an_argument_that_does_not_fit_is_named(self) -> None:
        with pytest.raises(InvalidInput, match="RERANKQ_DEVICE: must be cpu, cuda"):
            CrossEncoderReranker("bundled", device="tpu")

    def test_the_service_s_model_settings_are_the_defaults(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("CROSS_ENCODER_MODEL", tiny_models.bert(tmp_path))
        monkeypatch.setenv("RERANKQ_MAX_LENGTH", "16")
        monkeypatch.setenv("RERANKQ_THREADS", "1")
        monkeypatch.setenv("RERANKQ_MAX_BATCH_TOKENS", "512")
        long = results("sat on the mat " * 30, "sat on the mat " * 40)
        # Both are truncated to the same 16 tokens
        one, other = CrossEncoderReranker().rerank(QUERY, long)
        assert one.score == other.score

    def test_arguments_override_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("RERANKQ_MAX_LENGTH", "16")
        monkeypatch.setenv("RERANKQ_DEVICE", "cuda:7")
        monkeypatch.setenv("RERANKQ_DTYPE", "float16")
        chosen = CrossEncoderReranker(
            tiny_models.bert(tmp_path),
            device="cpu",
            dtype="float32",
            threads=1,
            max_length=256,
            max_batch_tokens=512,
        )
        one, other = chosen.rerank(QUERY, results("sat on the mat " * 30, "sat on the mat " * 40))
        assert one.score != other.score

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("RERANKQ_REDIS_URL", "no url at all"),
            ("RERANKQ_VISIBILITY_TIMEOUT_S", "1"),
            ("RERANKQ_NAMESPACE", "not a name"),
            ("RERANKQ_LEASE_S", "soon"),
            ("RERANKQ_DOWNGRADE_MODEL", "/nowhere/at-all"),
        ],
    )
    def test_settings_of_redis_and_queue_do_not_matter(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        chosen = CrossEncoderReranker("bundled")
        assert texts(chosen.rerank(QUERY, results(*TEXTS), top_k=1)) == [BEST]

    def test_a_length_that_the_model_has_no_positions_for_is_refused(self) -> None:
        with pytest.raises(ModelUnavailable, match=r"MAX_LENGTH is 600, .* at most 512 tokens"):
            CrossEncoderReranker("bundled", max_length=600).warm_up()

    def test_each_model_may_have_its_own_length(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RERANKQ_MAX_LENGTH", "100")
        monkeypatch.setenv("RERANKQ_MODEL_MAX_LENGTHS", "bundled=600,other=64")
        with pytest.raises(ModelUnavailable, match=r"MODEL_MAX_LENGTHS is 600, .* at most 512 tok"):
            CrossEncoderReranker("bundled").warm_up()
        # An argument applies to this reranker alone
        CrossEncoderReranker("bundled", max_length=64).warm_up()

    def test_making_a_reranker_loads_nothing(self) -> None:
        assert CrossEncoderReranker("/nowhere/at-all").model_name == "/nowhere/at-all"

    def test_warming_up_loads_the_model_ahead_of_the_first_use(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            early = CrossEncoderReranker(tiny_models.bert(tmp_path))
            early.warm_up()
            loaded = [record.getMessage() for record in caplog.records]
            caplog.clear()
            early.rerank(QUERY, results(*TEXTS))
        assert any(line.startswith("Loading cross-encoder model: ") for line in loaded)
        assert not any("Loading" in record.getMessage() for record in caplog.records)

    def test_two_rerankers_of_one_name_share_one_model(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tiny_models.bert(tmp_path)
        with caplog.at_level(logging.INFO):
            for _ in range(2):
                CrossEncoderReranker(path).rerank(QUERY, results(*TEXTS))
        loadings = [line for line in caplog.messages if line.startswith("Loading cross-encoder")]
        assert loadings == [f"Loading cross-encoder model: {path}"]

    def test_a_first_use_is_logged_in_three_lines_of_known_shape(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tiny_models.bert(tmp_path / "my-model")
        with caplog.at_level(logging.INFO):
            CrossEncoderReranker(path).rerank(QUERY, results(*TEXTS), top_k=2)
        lines = [
            record.getMessage()
            for record in caplog.records
            if record.name in ("worker.engine.checkpoint", "worker.inprocess.reranker")
            and record.levelno == logging.INFO
        ]
        shapes = (
            rf"Loading cross-encoder model: {re.escape(path)}",
            r"Cross-encoder loaded successfully in \d+\.\d{3}s",
            r"Reranked 3 results → 2 results in \d+\.\d{3}s \(model=my-model\)",
        )
        assert len(lines) == 3
        for line, shape in zip(lines, shapes, strict=True):
            assert re.fullmatch(shape, line)


class TestBasicReranking:
    def test_the_best_result_comes_first(self, reranker: CrossEncoderReranker) -> None:
        assert texts(reranker.rerank(QUERY, results(*TEXTS))) == [BEST, GOOD, FAR]

    def test_scores_fall(self, reranker: CrossEncoderReranker) -> None:
        given = scores(reranker.rerank(QUERY, results(*TEXTS, "pdf", "", "merge", "file")))
        assert len(given) == 7
        assert given == sorted(given, reverse=True)

    def test_the_order_depends_on_the_query_only(self, reranker: CrossEncoderReranker) -> None:
        forwards = reranker.rerank(QUERY, results(*TEXTS))
        backwards = reranker.rerank(QUERY, results(*TEXTS[::-1]))
        assert texts(forwards) == texts(backwards)
        other = reranker.rerank("deliver mail messages to users", results(*TEXTS))
        assert texts(other)[0] == FAR

    def test_the_input_is_left_as_it_was(self, reranker: CrossEncoderReranker) -> None:
        given = results(*TEXTS)
        items = list(given)
        before = copy.deepcopy(given)
        reranker.rerank(QUERY, given, top_k=2)
        assert given == before
        assert all(now is then for now, then in zip(given, items, strict=True))

    def test_equal_scores_keep_the_order_of_the_first_stage(
        self, reranker: CrossEncoderReranker
    ) -> None:
        given = results(GOOD, BEST, GOOD, GOOD, BEST)
        assert names(reranker.rerank(QUERY, given)) == ["c1", "c4", "c0", "c2", "c3"]

    def test_a_single_result_comes_back_scored(self, reranker: CrossEncoderReranker) -> None:
        (only,) = reranker.rerank(QUERY, [result(GOOD)])
        assert only.chunk.text == GOOD
        assert only.score is not None

    def test_the_same_call_gives_the_same_answer(self, reranker: CrossEncoderReranker) -> None:
        given = results(*TEXTS)
        assert reranker.rerank(QUERY, given) == reranker.rerank(QUERY, given)

    def test_texts_of_any_length_and_script_are_ranked(
        self, reranker: CrossEncoderReranker
    ) -> None:
        given = results(
            "", "日本語のPDF", "🙂", "word " * 3_000, BEST, "fusionner des fichiers PDF"
        )
        reranked = reranker.rerank(QUERY, given)
        assert sorted(texts(reranked)) == sorted(texts(given))
        assert reranked[0].chunk.text == BEST

    def test_a_call_is_logged_with_its_counts_and_model(
        self, reranker: CrossEncoderReranker, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            reranker.rerank(QUERY, results(*TEXTS * 4), top_k=10)
        (line,) = caplog.messages
        assert re.fullmatch(
            r"Reranked 12 results → 10 results in \d+\.\d{3}s \(model=bundled\)", line
        )
        assert caplog.records[0].levelno == logging.INFO


class TestTopK:
    def test_none_keeps_all(self, reranker: CrossEncoderReranker) -> None:
        assert texts(reranker.rerank(QUERY, results(*TEXTS), top_k=None)) == [BEST, GOOD, FAR]

    @pytest.mark.parametrize("top_k", [1, 2, 3])
    def test_the_best_top_k_are_kept(self, reranker: CrossEncoderReranker, top_k: int) -> None:
        kept = reranker.rerank(QUERY, results(*TEXTS), top_k=top_k)
        assert texts(kept) == [BEST, GOOD, FAR][:top_k]

    def test_more_than_there_are_keeps_all(self, reranker: CrossEncoderReranker) -> None:
        assert texts(reranker.rerank(QUERY, results(*TEXTS), top_k=99)) == [BEST, GOOD, FAR]

    def test_none_of_them_are_kept_with_zero(self, reranker: CrossEncoderReranker) -> None:
        assert reranker.rerank(QUERY, results(*TEXTS), top_k=0) == []

    @pytest.mark.parametrize("given", [[], results(*TEXTS)])
    def test_a_negative_number_is_refused(
        self, reranker: CrossEncoderReranker, given: list[QueryResult]
    ) -> None:
        with pytest.raises(InvalidInput, match="top_k is -1"):
            reranker.rerank(QUERY, given, top_k=-1)

    def test_scores_do_not_depend_on_it(self, reranker: CrossEncoderReranker) -> None:
        every = reranker.rerank(QUERY, results(*TEXTS))
        assert reranker.rerank(QUERY, results(*TEXTS), top_k=2) == every[:2]

    def test_the_cut_between_equals_goes_to_the_first_stages_best(
        self, reranker: CrossEncoderReranker
    ) -> None:
        assert names(reranker.rerank(QUERY, results(GOOD, GOOD, GOOD), top_k=2)) == ["c0", "c1"]


class TestEmptyInput:
    def test_no_results_give_no_results(self, reranker: CrossEncoderReranker) -> None:
        assert reranker.rerank(QUERY, []) == []

    @pytest.mark.parametrize("query", ["", "   ", "\n\t"])
    def test_a_blank_query_is_refused(self, reranker: CrossEncoderReranker, query: str) -> None:
        with pytest.raises(InvalidInput, match="query must not be blank"):
            reranker.rerank(query, results(*TEXTS))

    def test_no_results_give_no_results_whatever_the_query(
        self, reranker: CrossEncoderReranker
    ) -> None:
        assert reranker.rerank("", []) == []

    def test_no_results_need_no_model(self) -> None:
        assert CrossEncoderReranker("/nowhere/at-all").rerank(QUERY, []) == []

    def test_empty_texts_are_scored_as_any_other(self, reranker: CrossEncoderReranker) -> None:
        reranked = reranker.rerank(QUERY, results("", BEST, ""))
        assert names(reranked) == ["c1", "c0", "c2"]
        assert reranked[1].score == reranked[2].score

    def test_no_results_asynchronously_give_no_results(
        self, reranker: CrossEncoderReranker
    ) -> None:
        assert asyncio.run(reranker.rerank_async(QUERY, [])) == []


class TestAsync:
    def test_the_answer_is_that_of_the_blocking_call(self, reranker: CrossEncoderReranker) -> None:
        given = results(*TEXTS)
        answer = asyncio.run(reranker.rerank_async(QUERY, given, top_k=2))
        assert answer == reranker.rerank(QUERY, given, top_k=2)

    def test_many_awaited_together_all_come_back_right(
        self, reranker: CrossEncoderReranker
    ) -> None:
        calls = [
            (f"{QUERY} number {turn}", results(*TEXTS, f"about {turn}"), turn % 5)
            for turn in range(20)
        ]

        async def together() -> list[list[QueryResult]]:
            return await asyncio.gather(*(reranker.rerank_async(*call) for call in calls))

        for answer, (query, given, top_k) in zip(asyncio.run(together()), calls, strict=True):
            alone = reranker.rerank(query, given, top_k)
            assert names(answer) == names(alone)
            assert scores(answer) == pytest.approx(scores(alone), abs=1e-4)

    def test_the_event_loop_turns_while_the_model_scores(
        self, reranker: CrossEncoderReranker
    ) -> None:
        given = results(*(f"document {place} " + "about many words " * 200 for place in range(60)))

        async def turns_until_done() -> int:
            turns = 0
            reranking = asyncio.create_task(reranker.rerank_async(QUERY, given))
            while not reranking.done():
                await asyncio.sleep(0)  # lets the loop run once
                turns += 1
            assert len(await reranking) == 60
            return turns

        # A call that blocked the loop would be done within the first few turns.
        assert asyncio.run(turns_until_done()) > 100

    def test_an_error_reaches_who_awaits(self, reranker: CrossEncoderReranker) -> None:
        with pytest.raises(ScoringError, match="Reranking failed for model bundled"):
            asyncio.run(reranker.rerank_async(UNREADABLE, results(*TEXTS)))

    def test_a_failure_among_many_leaves_the_others_right(
        self, reranker: CrossEncoderReranker
    ) -> None:
        async def together() -> tuple[list[QueryResult] | BaseException, ...]:
            return await asyncio.gather(
                reranker.rerank_async(QUERY, results(*TEXTS)),
                reranker.rerank_async(UNREADABLE, results(*TEXTS)),
                reranker.rerank_async(" ", results(*TEXTS)),
                reranker.rerank_async(QUERY, results(*TEXTS), 1),
                return_exceptions=True,
            )

        first, second, third, fourth = asyncio.run(together())
        assert isinstance(second, ScoringError)
        assert isinstance(third, InvalidInput)
        assert not isinstance(first, BaseException)
        assert not isinstance(fourth, BaseException)
        assert texts(first) == [BEST, GOOD, FAR]
        assert texts(fourth) == [BEST]

    def test_one_reranker_serves_one_event_loop_after_another(
        self, reranker: CrossEncoderReranker
    ) -> None:
        for _ in range(2):
            answer = asyncio.run(reranker.rerank_async(QUERY, results(*TEXTS), top_k=1))
            assert texts(answer) == [BEST]

    def test_the_input_is_left_as_it_was(self, reranker: CrossEncoderReranker) -> None:
        given = results(*TEXTS)
        before = copy.deepcopy(given)
        asyncio.run(reranker.rerank_async(QUERY, given))
        assert given == before

    def test_threads_may_share_a_reranker(self, reranker: CrossEncoderReranker) -> None:
        with ThreadPoolExecutor(8) as threads:
            answers = list(
                threads.map(lambda _: texts(reranker.rerank(QUERY, results(*TEXTS))), range(16))
            )
        assert answers == [[BEST, GOOD, FAR]] * 16


class TestPassages:
    def test_a_long_document_is_ranked_by_its_best_passage(self) -> None:
        filler = "A game with a blue hedgehog. " * 100
        long = f"{filler}{BEST} {filler}"
        plain = CrossEncoderReranker("bundled", threads=1, max_batch_tokens=2_048)
        cut = CrossEncoderReranker("bundled", threads=1, max_batch_tokens=2_048, passages=16)
        assert texts(plain.rerank(QUERY, results(long, GOOD)))[0] == GOOD
        assert texts(cut.rerank(QUERY, results(long, GOOD)))[0] == long
        first, second = cut.rank(QUERY, [long, GOOD])
        assert first.passage is not None
        assert BEST in long[first.passage.begin : first.passage.end]
        assert (second.score, second.passage) == (
            plain.rank(QUERY, [GOOD])[0].score,
            Passage(index=0, begin=0, end=len(GOOD), count=1),
        )
        with pytest.raises(InvalidInput, match="passages: tokens: must be at least 8"):
            CrossEncoderReranker("bundled", passages=1)


class TestScoreValidation:
    def test_every_score_is_a_finite_number(self, reranker: CrossEncoderReranker) -> None:
        given = scores(reranker.rerank(QUERY, results(*TEXTS, "", "🙂", "x " * 2_000)))
        assert len(given) == 6
        assert all(math.isfinite(score) for score in given)

    def test_scores_are_the_models_raw_logits(self, reranker: CrossEncoderReranker) -> None:
        logits = load("bundled", "cpu", 1, 2_048).score([(QUERY, text) for text in TEXTS])
        reranked = reranker.rerank(QUERY, results(*TEXTS))
        assert scores(reranked) == pytest.approx(sorted(logits, reverse=True), abs=1e-4)
        assert reranked[0].score is not None
        assert reranked[-1].score is not None
        assert reranked[0].score > 1
        assert reranked[-1].score < 0

    def test_each_result_has_the_score_of_its_own_text(
        self, reranker: CrossEncoderReranker
    ) -> None:
        alone = {text: reranker.rerank(QUERY, [result(text)])[0].score for text in TEXTS}
        for each in reranker.rerank(QUERY, results(*TEXTS)):
            assert each.score == pytest.approx(alone[each.chunk.text], abs=1e-4)

    @pytest.mark.parametrize("before", [None, 0.0, 1e9, -1e9])
    def test_the_retrievers_score_has_no_say(
        self, reranker: CrossEncoderReranker, before: float | None
    ) -> None:
        given = [result(FAR, score=before), result(BEST, score=-5.0)]
        reranked = reranker.rerank(QUERY, given)
        assert texts(reranked) == [BEST, FAR]
        assert reranked[1].score != before

    @pytest.mark.parametrize("weight", [math.nan, math.inf, 3e38])
    def test_scores_that_are_not_finite_are_an_error_that_names_the_model(
        self, tmp_path: Path, weight: float
    ) -> None:
        path = tiny_models.bert(tmp_path / "spoilt", change=tiny_models.fill_head(weight))
        with pytest.raises(
            ModelUnavailable,
            match=r"^Reranking failed for model spoilt: .* (not finite|NaN or infinity)",
        ) as caught:
            CrossEncoderReranker(path).rerank(QUERY, results(*TEXTS))
        assert isinstance(caught.value, ValueError)


class TestErrorHandling:
    def test_a_failure_of_the_model_is_a_value_error_with_its_cause(
        self, reranker: CrossEncoderReranker
    ) -> None:
        with pytest.raises(ValueError, match=r"^Reranking failed for model bundled: .+") as caught:
            reranker.rerank(UNREADABLE, results(*TEXTS))
        assert isinstance(caught.value.__cause__, TypeError)
        assert str(caught.value.__cause__) in str(caught.value)

    def test_a_model_that_is_nowhere_is_a_value_error_that_names_it(self) -> None:
        with pytest.raises(ValueError, match=r"/nowhere/at-all") as caught:
            CrossEncoderReranker("/nowhere/at-all").rerank(QUERY, results(*TEXTS))
        assert isinstance(caught.value, ModelUnavailable)
        assert isinstance(caught.value.__cause__, FileNotFoundError)

    def test_warming_up_a_model_that_is_nowhere_is_the_same_error(self) -> None:
        with pytest.raises(ModelUnavailable, match=r"/nowhere/at-all"):
            CrossEncoderReranker("/nowhere/at-all").warm_up()

    def test_a_model_that_gives_several_scores_a_pair_is_an_error(self, tmp_path: Path) -> None:
        path = tiny_models.bert(tmp_path / "classifier", num_labels=3)
        with pytest.raises(ModelUnavailable, match=r"returns 3 scores"):
            CrossEncoderReranker(path).rerank(QUERY, results(*TEXTS))

    def test_a_failure_leaves_the_callers_results_to_fall_back_on(
        self, reranker: CrossEncoderReranker
    ) -> None:
        given = results(*TEXTS)
        before = copy.deepcopy(given)
        with pytest.raises(ScoringError):
            reranker.rerank(UNREADABLE, given)
        assert given == before

    def test_a_failure_is_not_logged_as_a_success(
        self, reranker: CrossEncoderReranker, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO), pytest.raises(ScoringError):
            reranker.rerank(UNREADABLE, results(*TEXTS))
        assert not any("Reranked" in line for line in caplog.messages)

    def test_a_reranker_works_on_after_a_failure(self, reranker: CrossEncoderReranker) -> None:
        with pytest.raises(ScoringError):
            reranker.rerank(UNREADABLE, results(*TEXTS))
        assert texts(reranker.rerank(QUERY, results(*TEXTS))) == [BEST, GOOD, FAR]

    def test_a_model_that_was_missing_is_found_once_it_is_there(self, tmp_path: Path) -> None:
        late = CrossEncoderReranker(str(tmp_path / "late"))
        with pytest.raises(ModelUnavailable):
            late.rerank(QUERY, results(*TEXTS))
        shutil.copytree(bundled_path(), tmp_path / "late")
        assert texts(late.rerank(QUERY, results(*TEXTS), top_k=1)) == [BEST]

    @linux_only
    def test_too_little_memory_while_scoring_is_a_value_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RERANKQ_MAX_BATCH_TOKENS", "4096")
        path = tiny_models.bert_of_large_pairs(tmp_path / "large")
        large = CrossEncoderReranker(path)
        large.warm_up()
        given = results(*(f"{place} " * 5_000 for place in range(2)))
        with (
            limited_memory([os.getpid()], 32 * 2**20),
            pytest.raises(
                ScoringError, match=r"^Reranking failed for model large: .*allocate"
            ) as caught,
        ):
            large.rerank(QUERY, given)
        assert isinstance(caught.value.__cause__, OutOfMemory)

    @linux_only
    def test_too_little_memory_while_warming_up_is_a_value_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RERANKQ_MAX_BATCH_TOKENS", "4096")
        path = tiny_models.bert_of_large_pairs(tmp_path / "large")
        large = CrossEncoderReranker(path)
        with (
            limited_memory([os.getpid()], 32 * 2**20),
            pytest.raises(ValueError, match=r"^Reranking failed for model large: .*allocate"),
        ):
            large.warm_up()


class TestQueryResult:
    def test_chunk_and_metadata_come_back_with_the_new_score(
        self, reranker: CrossEncoderReranker
    ) -> None:
        metadata = DocumentChunkMetadata(source=Source.PDF, document_id="manual")
        chunk = DocumentChunkWithScore(chunk_id="c7", text=BEST, metadata=metadata)
        (reranked,) = reranker.rerank(QUERY, [QueryResult(chunk=chunk, score=0.25)])
        assert isinstance(reranked, QueryResult)
        assert reranked.chunk == chunk
        assert reranked.score is not None
        assert reranked.score != 0.25

    def test_what_comes_back_shares_nothing_with_the_input(
        self, reranker: CrossEncoderReranker
    ) -> None:
        metadata = DocumentChunkMetadata(source=Source.PDF, document_id="manual")
        given = QueryResult(chunk=DocumentChunkWithScore(text=BEST, metadata=metadata))
        (reranked,) = reranker.rerank(QUERY, [given])
        assert reranked.chunk.metadata is not None
        reranked.chunk.text = "changed"
        reranked.chunk.metadata.document_id = "changed"
        assert (given.chunk.text, metadata.document_id) == (BEST, "manual")

    def test_a_kind_of_ones_own_comes_back_as_that_kind(
        self, reranker: CrossEncoderReranker
    ) -> None:
        class Noted(QueryResult):
            note: str

        given: list[QueryResult] = [Noted(chunk=DocumentChunkWithScore(text=BEST), note="mine")]
        (reranked,) = reranker.rerank(QUERY, given)
        assert isinstance(reranked, Noted)
        assert reranked.note == "mine"

    def test_a_reranked_list_can_be_reranked(self, reranker: CrossEncoderReranker) -> None:
        once = reranker.rerank(QUERY, results(*TEXTS))
        assert reranker.rerank(QUERY, once) == once

    def test_a_reranked_result_survives_json(self, reranker: CrossEncoderReranker) -> None:
        metadata = DocumentChunkMetadata(source=Source.PDF, document_id="manual")
        chunk = DocumentChunkWithScore(chunk_id="c7", text=BEST, metadata=metadata)
        (reranked,) = reranker.rerank(QUERY, [QueryResult(chunk=chunk)])
        assert QueryResult.model_validate_json(reranked.model_dump_json()) == reranked

    def test_a_result_needs_a_chunk_with_text(self) -> None:
        with pytest.raises(ValidationError):
            QueryResult.model_validate({"chunk": {"chunk_id": "c1"}, "score": 1.0})

    def test_pdf_is_a_source(self) -> None:
        parsed = DocumentChunkMetadata.model_validate({"source": "pdf", "document_id": "manual"})
        assert parsed.source is Source.PDF
