"""Ask an OpenAI-compatible endpoint to rate documents, many at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from contract.errors import InvalidInput, ModelUnavailable, RerankError, ScoringError
from producer.llm import prompt
from producer.llm.usage import UsageCounter

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletion

logger = logging.getLogger(__name__)

#: The parameters of each call. With the temperature 0, most models answer the same each time.
PARAMETERS = {"temperature": 0, "max_tokens": prompt.MAX_ANSWER_TOKENS}

#: A rating, or the reason why there is none.
Rating = float | RerankError


class Endpoint:
    """A model behind an OpenAI-compatible API, and the limits within which it is asked.

    Raises `InvalidInput` when constructed if the extra `llm` is not installed or the API key is
    missing.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None,
        api_key: str | None,
        concurrency: int,
        max_retries: int,
        request_timeout_s: float,
        parameters: Mapping[str, Any] | None,
    ) -> None:
        if concurrency < 1:
            raise InvalidInput(f"concurrency is {concurrency}; it must be 1 or more")
        self.model = model
        self.usage = UsageCounter()
        self._concurrency = concurrency
        asked = {**PARAMETERS, **(parameters or {})}
        self._parameters = {name: value for name, value in asked.items() if value is not None}
        self._options: dict[str, Any] = {
            "base_url": base_url,
            "api_key": api_key,
            "max_retries": max_retries,
            "timeout": request_timeout_s,
        }
        self.base_url = self._check_options()

    async def rate(
        self, query: str, documents: Sequence[str], timeout_s: float | None
    ) -> list[Rating]:
        """Return the rating of each document, in their order.

        Documents that are not rated after `timeout_s` seconds (None: no limit) have a
        `ScoringError`. Raises `ModelUnavailable` at once if the endpoint refuses the key or does
        not have the model.
        """
        slots = asyncio.Semaphore(self._concurrency)
        async with self._client() as client:
            tasks = [asyncio.create_task(self._rate(client, slots, query, d)) for d in documents]
            try:
                done, late = await asyncio.wait(
                    tasks, timeout=timeout_s, return_when=asyncio.FIRST_EXCEPTION
                )
                for task in done:
                    task.result()  # raises the error that ends all other calls
                not_rated = ScoringError(f"not rated within {timeout_s} s")
                ratings = [not_rated if task in late else task.result() for task in tasks]
            finally:
                await _cancel(tasks)
        self._count(ratings)
        return ratings

    async def _rate(
        self, client: AsyncOpenAI, slots: asyncio.Semaphore, query: str, document: str
    ) -> Rating:
        import openai

        try:
            async with slots:
                reply = await client.chat.completions.create(
                    model=self.model,
                    messages=prompt.messages(query, document),
                    **self._parameters,
                )
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ModelUnavailable(f"{self.base_url} refuses the API key: {error}") from error
        except openai.NotFoundError as error:
            raise ModelUnavailable(f"{self.base_url} has no {self.model!r}: {error}") from error
        except openai.APIError as error:
            return _failure(f"no answer from {self.base_url}: {error}", error)
        self._count_tokens(reply)
        return self._read(reply)

    def _read(self, reply: ChatCompletion) -> Rating:
        try:
            return prompt.read_rating(reply.choices[0].message.content)
        # Servers differ in what they leave out of an answer.
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            self.usage.add(malformed=1)
            return _failure(f"malformed answer of {self.model}: {error}", error)

    def _count_tokens(self, reply: ChatCompletion) -> None:
        if (used := reply.usage) is not None:
            self.usage.add(
                prompt_tokens=used.prompt_tokens, completion_tokens=used.completion_tokens
            )

    def _count(self, ratings: Sequence[Rating]) -> None:
        failed = [each for each in ratings if isinstance(each, RerankError)]
        self.usage.add(documents=len(ratings), failed=len(failed))
        if failed:
            logger.warning(
                "%s did not rate %d of %d documents; the first reason: %s",
                self.model,
                len(failed),
                len(ratings),
                failed[0],
            )

    async def _count_request(self, _: object) -> None:
        self.usage.add(requests=1)

    def _check_options(self) -> str:
        """Return the URL of the endpoint, which may come from the environment."""
        try:
            import openai
        except ModuleNotFoundError as error:
            raise InvalidInput(
                "the LLM reranker needs the extra llm: pip install 'rerankq[llm]'"
            ) from error
        try:
            with openai.OpenAI(**self._options) as client:
                return str(client.base_url)
        except openai.OpenAIError as error:
            raise InvalidInput(f"the LLM endpoint is not configured: {error}") from error

    def _client(self) -> AsyncOpenAI:
        """Return a client, which belongs to the running event loop."""
        import openai

        hooks: dict[str, Any] = {"request": [self._count_request]}
        http = openai.DefaultAsyncHttpxClient(event_hooks=hooks)
        return openai.AsyncOpenAI(**self._options, http_client=http)


def _failure(message: str, cause: Exception) -> ScoringError:
    failure = ScoringError(message)
    failure.__cause__ = cause
    return failure


async def _cancel(tasks: Sequence[asyncio.Future[Rating]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
