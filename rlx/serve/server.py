"""A policy behind a websocket that openpi's clients understand.

A client connects and is sent the metadata, a dict; then each observation, a dict, is answered by a
dict with `actions` f32 [T, A] and `server_timing` {infer_ms, and from the second on prev_total_ms}.
`{"batch": [observation, ...]}`, at most `max_asked`, is answered by
`{"batch": [reply, ...], "server_timing"}`.
What cannot be answered is said in a text message, and the connection is closed (code 1011).
`GET /healthz` answers 200 "OK". Format of the messages: `rlx.serve.wire`.
"""

from __future__ import annotations

import asyncio
import http
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from rlx.serve.batching import Answer, BadObservation, Batcher, Message, Policy
from rlx.serve.wire import MAX_LENGTH, WireError, pack, unpack

_INTERNAL_ERROR = 1011  # close code of RFC 6455


class Options(NamedTuple):
    """How to serve."""

    host: str = "127.0.0.1"  # this machine only; "0.0.0.0" lets anybody in the network in
    port: int = 8000  # 0 = any free one
    max_batch: int = 8  # observations per call of the policy, a power of two
    max_wait_ms: float = 5.0  # how long an observation waits for others
    max_message_mb: float = 64.0  # longer messages close the connection; 0 = no limit
    max_asked: int = 256  # observations in one message
    debug: bool = False  # send tracebacks to clients


_DEFAULTS, _ANY_PORT = Options(), Options(port=0)


def serve(
    policy: Policy,
    options: Options = _DEFAULTS,
    metadata: Message | None = None,
    example: Message | None = None,
    ready: Callable[[int], None] = lambda port: None,
) -> None:
    """Serve until interrupted.

    Args:
      policy: observations -> replies, called with 1, 2, 4 ... `max_batch` of them, always from one
        and the same thread. It raises `BadObservation` for what a client did wrong.
      metadata: what clients are told at first.
      example: an observation; with it the policy is called for every size before clients come in.
      ready: called with the port when they can.
    Raises ValueError for options out of range, OSError where the port is taken.
    """
    asyncio.run(_serve(policy, options, metadata or {}, example, ready))


@contextmanager
def background(policy: Policy, options: Options = _ANY_PORT, **arguments: Any) -> Iterator[int]:
    """Serve in a thread for as long as the context lasts; yields the port."""
    loop = asyncio.new_event_loop()
    port: list[int] = []
    started = threading.Event()

    def ready(number: int) -> None:
        port.append(number)
        started.set()

    arguments = {"metadata": {}, "example": None, **arguments}
    task = loop.create_task(_serve(policy, options, ready=ready, **arguments))

    def run() -> None:
        with suppress(asyncio.CancelledError, Exception):  # what failed is raised below
            loop.run_until_complete(task)
        started.set()

    thread = threading.Thread(target=run, name="serve")
    thread.start()
    started.wait()
    try:
        if not port:
            thread.join()
            task.result()
        yield port[0]
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


async def _serve(
    policy: Policy,
    options: Options,
    metadata: Message,
    example: Message | None,
    ready: Callable[[int], None],
) -> None:
    from websockets.asyncio.server import serve as listen

    if options.max_message_mb < 0:
        raise ValueError(f"max_message_mb is >= 0, got {options.max_message_mb}")
    if not 1 <= options.max_asked <= MAX_LENGTH:
        raise ValueError(f"max_asked is 1 to {MAX_LENGTH}, got {options.max_asked}")
    if not 0 <= options.port < 2**16:
        raise ValueError(f"port is 0 to 65535, got {options.port}")
    hello = pack(metadata)  # raises before anybody connects
    batcher = Batcher(policy, options.max_batch, options.max_wait_ms)
    answering = asyncio.create_task(batcher.run())
    try:
        if example is not None:
            await batcher.warm_up(example)
        async with listen(
            lambda socket: _talk(socket, batcher, hello, options),
            options.host,
            options.port,
            compression=None,
            max_size=int(options.max_message_mb * 2**20) or None,
            process_request=_health,
        ) as server:
            ready(server.sockets[0].getsockname()[1])
            await answering
    finally:
        answering.cancel()
        batcher.close()


def _health(connection: Any, request: Any) -> Any:
    if request.path == "/healthz":
        return connection.respond(http.HTTPStatus.OK, "OK\n")
    return None


async def _talk(socket: Any, batcher: Batcher, hello: bytes, options: Options) -> None:
    """Answer one client until it leaves."""
    from websockets.exceptions import ConnectionClosed

    batcher.clients += 1
    try:
        await _conversation(socket, batcher, hello, options)
    except ConnectionClosed:
        return  # how every conversation ends
    finally:
        batcher.clients -= 1


async def _conversation(socket: Any, batcher: Batcher, hello: bytes, options: Options) -> None:
    """Answer one message after the other, until one cannot be answered."""
    await socket.send(hello)
    previous: float | None = None
    while True:
        data = await socket.recv()
        start = time.monotonic()
        try:
            reply = await _reply(data, batcher, options.max_asked, previous)
        except Exception as error:  # whatever a message causes ends its connection only
            await socket.send(_text(error, options.debug))
            await socket.close(_INTERNAL_ERROR, "the request could not be answered")
            return
        await socket.send(reply)
        previous = time.monotonic() - start


async def _reply(
    data: bytes | str, batcher: Batcher, max_asked: int, previous: float | None
) -> bytes:
    """The bytes that answer a message; raises what `_text` puts into words."""
    if isinstance(data, str):
        raise BadObservation("an observation is a binary message, got text")
    message = unpack(data)
    if not isinstance(message, dict):
        raise BadObservation(f"an observation is a dict, got {type(message).__name__}")
    if "batch" not in message:
        answer = await batcher.ask(message)
        return pack({**_checked(answer), "server_timing": _timing([answer], previous)})
    batch = message["batch"]
    if not isinstance(batch, list) or not all(isinstance(item, dict) for item in batch):
        raise BadObservation("a batch is a list of dicts")
    if len(batch) > max_asked:
        raise BadObservation(f"a batch has at most {max_asked} observations, got {len(batch)}")
    answers = await asyncio.gather(*(batcher.ask(item) for item in batch))
    replies = [_checked(answer) for answer in answers]
    return pack({"batch": replies, "server_timing": _timing(answers, previous)})


def _checked(answer: Answer) -> Message:
    if answer.error is not None:
        raise answer.error
    assert answer.reply is not None
    return answer.reply


def _timing(answers: list[Answer], previous: float | None) -> dict[str, float]:
    timing = {"infer_ms": 1000 * max((answer.infer_s for answer in answers), default=0.0)}
    return timing if previous is None else timing | {"prev_total_ms": 1000 * previous}


def _text(error: Exception, debug: bool) -> str:
    """What a client is told: its own mistakes in words, of the server's nothing but that."""
    if debug:
        return "".join(traceback.format_exception(error))
    if isinstance(error, BadObservation | WireError):
        return str(error)
    return "the policy could not answer this observation; the server's log says why"
