"""Requests of many clients answered together: one call of the policy for whoever asks within a few
milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

Message = dict[str, Any]
Policy = Callable[[list[Message]], list[Message]]  # observations -> replies, in the same order


class BadObservation(ValueError):
    """An observation that the policy cannot use; its text is sent to the client."""


class Answer(NamedTuple):
    """A reply, or why there is none."""

    reply: Message | None
    error: Exception | None
    infer_s: float  # of the call of the policy that made it


class Batcher:
    """Collects observations and calls the policy, in a thread of its own, on 1, 2, 4 ... of them:
    few sizes, so few compiled programs. The rest of a batch repeats its last observation.
    """

    def __init__(self, policy: Policy, max_batch: int = 8, max_wait_ms: float = 5.0):
        """max_batch: most observations in a call, a power of two.   max_wait_ms: how long the first
        one of a batch waits for others, while there are `clients` that could send one.
        """
        if max_batch < 1 or max_batch & (max_batch - 1):
            raise ValueError(f"max_batch is a power of two, got {max_batch}")
        if max_wait_ms < 0:
            raise ValueError(f"max_wait_ms is >= 0, got {max_wait_ms}")
        self.clients = 0  # connected now; each has one request under way at most
        self._policy, self._max_batch, self._max_wait = policy, max_batch, max_wait_ms / 1000
        self._queue: asyncio.Queue[tuple[Message, asyncio.Future[Answer]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="policy")

    async def warm_up(self, observation: Message) -> None:
        """Call the policy once for every size of batch, so that no client waits for a compile."""
        size = 1
        while size <= self._max_batch:
            answers = await self._in_thread(self._call, [observation] * size)
            if answers[0].error is not None:
                raise answers[0].error
            size *= 2

    async def ask(self, observation: Message) -> Answer:
        """Return the policy's answer to one observation, once it is there."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await self._queue.put((observation, future))
        return await future

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            batch = await self._collect()
            observations = [observation for observation, _ in batch]
            answers = await self._in_thread(self._answer, observations)
            for (_, future), answer in zip(batch, answers):
                if not future.done():  # its client may have gone
                    future.set_result(answer)

    def close(self) -> None:
        """Let the policy's thread end, after the call that is under way."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _in_thread(self, call: Callable[..., list[Answer]], observations: list[Message]) -> Any:
        return asyncio.get_running_loop().run_in_executor(self._thread, call, observations)

    async def _collect(self) -> list[tuple[Message, asyncio.Future[Answer]]]:
        batch = [await self._queue.get()]
        deadline = time.monotonic() + self._max_wait
        while len(batch) < self._max_batch:
            if not self._queue.empty():
                batch.append(self._queue.get_nowait())
                continue
            left = deadline - time.monotonic()
            if left <= 0 or len(batch) >= self.clients:
                break
            try:
                batch.append(await asyncio.wait_for(self._queue.get(), left))
            except TimeoutError:
                break
        return batch

    def _answer(self, observations: list[Message]) -> list[Answer]:
        """The answers to a batch; where it fails each is asked alone, so that one client's bad
        observation is that client's error only.
        """
        answers = self._call(observations)
        if answers[0].error is not None and len(observations) > 1:
            return [self._call([observation])[0] for observation in observations]
        return answers

    def _call(self, observations: Sequence[Message]) -> list[Answer]:
        count = len(observations)
        size = 1 << (count - 1).bit_length()  # the next power of two
        padded = [*observations, *[observations[-1]] * (size - count)]
        start = time.monotonic()
        try:
            replies = self._policy([dict(observation) for observation in padded])
            if len(replies) != size or not all(isinstance(r, dict) for r in replies):
                raise TypeError("a policy returns one dict per observation")
        except Exception as error:  # any error of a policy is an answer, never the server's end
            if not isinstance(error, BadObservation):
                logging.getLogger("rlx.serve").error("the policy failed", exc_info=error)
            return [Answer(None, error, time.monotonic() - start)] * count
        return [Answer(reply, None, time.monotonic() - start) for reply in replies[:count]]
