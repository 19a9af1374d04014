"""The robot's side: ask a policy server, and play the chunks of actions that it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rlx.serve.wire import pack, unpack

Message = dict[str, Any]
_RETRY_S = 0.2  # between two attempts to connect


class ServerError(RuntimeError):
    """What the server said instead of an answer; it has closed the connection."""


class Client:
    """A connection to a policy server."""

    def __init__(self, host: str = "127.0.0.1", port: int = 8000, wait_s: float = 0.0):
        """Connect; `metadata` is what the server told.

        wait_s: for how long to try while nobody listens there.
        Raises ConnectionRefusedError if nobody does in the end.
        """
        from websockets.sync.client import connect

        deadline = time.monotonic() + wait_s
        while True:
            try:
                address = f"ws://{host}:{port}"
                self._context = connect(address, compression=None, max_size=None, proxy=None)
                self._socket = self._context.__enter__()
                break
            except ConnectionRefusedError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_S)
        self.metadata: Message = unpack(self._received())

    def infer(self, observation: Message) -> Message:
        """Return the answer to one observation: `actions` f32 [T, A] and more.

        Raises ServerError with the server's words if there is none.
        """
        self._socket.send(pack(observation))
        return unpack(self._received())

    def infer_batch(self, observations: list[Message]) -> list[Message]:
        """Return the answers to several observations, asked at once; servers limit how many."""
        return self.infer({"batch": observations})["batch"]

    def close(self) -> None:
        """End the connection."""
        self._context.__exit__(None, None, None)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _received(self) -> bytes:
        data = self._socket.recv()
        if isinstance(data, str):
            raise ServerError(data)
        return data


class ChunkBroker:
    """Turns a policy of chunks into one of single actions.

    `action_horizon` steps of a chunk are played before the policy is asked again. With `ensemble`
    an action is the mean of what all chunks asked so far say of the present step, weighted by
    exp(-ensemble * i), i = 0 for the oldest (Zhao et al. 2023, arXiv 2304.13705); chunks must then
    hold absolute actions, since each is relative to another state otherwise.
    """

    def __init__(
        self,
        infer: Callable[[Message], Message],
        action_horizon: int,
        ensemble: float | None = None,
    ):
        """infer: observation -> dict with `actions` [T, A], such as `Client.infer`."""
        if action_horizon < 1:
            raise ValueError(f"action_horizon is a whole number >= 1, got {action_horizon}")
        self._infer, self._horizon, self._ensemble = infer, action_horizon, ensemble
        self.reset()

    def reset(self) -> None:
        """Forget all chunks: a new episode begins."""
        self._step = 0
        self._chunks: list[tuple[int, np.ndarray]] = []  # first step, actions [T, A]; oldest first

    def act(self, observation: Message) -> np.ndarray:
        """Return the action `[A]` of this step; the observation is looked at when a new chunk is
        due. Raises ValueError for chunks shorter than `action_horizon`.
        """
        if self._step % self._horizon == 0:
            chunk = np.asarray(self._infer(observation)["actions"], np.float32)
            if chunk.ndim != 2 or len(chunk) < self._horizon:
                raise ValueError(
                    f"a chunk is [T, A] with T >= action_horizon = {self._horizon}, "
                    f"got {list(chunk.shape)}"
                )
            older = self._chunks if self._ensemble is not None else []
            self._chunks = [*older, (self._step, chunk)]
        self._chunks = [(t, chunk) for t, chunk in self._chunks if self._step - t < len(chunk)]
        said = np.stack([chunk[self._step - t] for t, chunk in self._chunks])
        weights = np.exp(-(self._ensemble or 0.0) * np.arange(len(said)))
        self._step += 1
        return (weights @ said / weights.sum()).astype(np.float32)
