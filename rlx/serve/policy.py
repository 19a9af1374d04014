"""What can be served."""

from __future__ import annotations

from typing import NamedTuple

from rlx.serve.batching import Message, Policy


class Served(NamedTuple):
    """A policy and what its server should know of it."""

    policy: (
        Policy  # observations -> replies with `actions` f32 [T, A], see `rlx.serve.server.serve`
    )
    metadata: Message  # what clients are told when they connect
    example: Message  # an observation, to compile with before the first client comes
