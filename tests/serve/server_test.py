"""The server on real sockets: many clients, hostile ones, and what its batches look like."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from socket import SHUT_RDWR

import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from rlx.infra.errors import ConfigError
from rlx.serve import __main__ as command
from rlx.serve.batching import BadObservation
from rlx.serve.client import Client, ServerError
from rlx.serve.policy import Served
from rlx.serve.server import Options, background, serve
from rlx.serve.wire import WireError, pack, unpack

SECRET = "/home/someone/secret.py"


class Doubling:
    """A policy that doubles states, and remembers what it was asked."""

    def __init__(self, delay=0.0):
        self.sizes, self.threads, self.delay = [], set(), delay

    def __call__(self, observations):
        self.sizes.append(len(observations))
        self.threads.add(threading.get_ident())
        time.sleep(self.delay)
        for observation in observations:
            if "explode" in observation:
                raise RuntimeError(f"in {SECRET}")
            if "state" not in observation:
                raise BadObservation("an observation has 'state' [S]")
        states = np.stack([observation.pop("state") for observation in observations])
        return [{"actions": np.tile(2 * state, (3, 1))} for state in states]


def options(**changes):
    return Options(port=0)._replace(**changes)


@pytest.fixture(scope="module")
def port():
    with background(Doubling(), options(max_message_mb=1), metadata={"robot": "arm"}) as number:
        yield number


def works(port):
    with Client(port=port) as client:
        reply = client.infer({"state": np.arange(2, dtype=np.float32)})
    np.testing.assert_array_equal(reply["actions"], [[0, 2]] * 3)
    return True


def test_an_observation_is_answered(port):
    with Client(port=port) as client:
        assert client.metadata == {"robot": "arm"}
        for turn in range(3):
            reply = client.infer({"state": np.full(2, turn, np.float32)})
            np.testing.assert_array_equal(reply["actions"], np.full((3, 2), 2 * turn))
            assert reply["actions"].dtype == np.float32
            assert reply["server_timing"]["infer_ms"] >= 0
            assert ("prev_total_ms" in reply["server_timing"]) == (turn > 0)


def test_a_client_that_knows_the_layout_only(port):
    """The public client's conversation, its messages made without our wire format."""
    state = np.array([1.5, -2], np.float32)
    array = {
        b"__ndarray__": True,
        b"data": state.tobytes(),
        b"dtype": state.dtype.str,
        b"shape": state.shape,
    }
    with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as socket:
        assert msgpack.unpackb(socket.recv()) == {"robot": "arm"}
        socket.send(msgpack.packb({"state": array, "prompt": "go"}))
        reply = msgpack.unpackb(socket.recv())
    actions = reply["actions"]
    assert set(actions) == {b"__ndarray__", b"data", b"dtype", b"shape"}
    assert (actions[b"dtype"], actions[b"shape"]) == ("<f4", [3, 2])
    np.testing.assert_array_equal(np.frombuffer(actions[b"data"], "<f4"), [3, -4] * 3)


def test_health(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
        assert (answer.status, answer.read()) == (200, b"OK\n")
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/other")


def test_32_clients_at_once_get_their_own_answers_in_few_calls():
    policy = Doubling(delay=0.01)

    def talk(port, number):
        with Client(port=port) as client:
            barrier.wait()
            for turn in range(10):
                state = np.array([number, turn], np.float32)
                reply = client.infer({"state": state})
                np.testing.assert_array_equal(reply["actions"], np.tile(2 * state, (3, 1)))
        return number

    barrier = threading.Barrier(32)
    with background(policy, options(max_batch=8, max_wait_ms=5)) as port:
        with ThreadPoolExecutor(32) as pool:
            jobs = [pool.submit(talk, port, number) for number in range(32)]
            assert [job.result() for job in jobs] == list(range(32))
    assert set(policy.sizes) <= {1, 2, 4, 8}
    assert len(policy.sizes) < 150  # 320 observations, 40 calls at the least
    assert sum(policy.sizes) >= 320
    assert len(policy.threads) == 1


def test_an_observation_waits_for_other_clients_no_longer_than_told():
    def seconds(client):
        start = time.monotonic()
        client.infer({"state": np.zeros(1)})
        return time.monotonic() - start

    with background(Doubling(), options(max_wait_ms=400)) as port, Client(port=port) as client:
        assert seconds(client) < 0.3  # alone
        with Client(port=port):
            assert 0.35 < seconds(client) < 2  # the other one might ask
        deadline = time.monotonic() + 10
        while seconds(client) > 0.3:  # until the server saw it leave
            assert time.monotonic() < deadline
    with background(Doubling(), options(max_wait_ms=60_000, max_batch=1)) as port:
        with Client(port=port) as client, Client(port=port):
            assert seconds(client) < 10  # a full batch waits for nobody


def test_a_batch_in_one_message(port):
    with Client(port=port) as client:
        replies = client.infer_batch([{"state": np.array([i])} for i in range(11)])
        np.testing.assert_array_equal([r["actions"][0, 0] for r in replies], 2 * np.arange(11))
        assert client.infer_batch([]) == []
        with pytest.raises(ServerError, match="a batch is a list of dicts"):
            client.infer({"batch": [1]})
    assert works(port)


def test_batches_are_padded_to_powers_of_two_and_compiled_before_clients_come():
    policy = Doubling()
    example = {"state": np.zeros(2)}
    with background(policy, options(max_batch=8, max_wait_ms=200), example=example) as port:
        assert policy.sizes == [1, 2, 4, 8]
        with Client(port=port) as client:
            client.infer_batch([{"state": np.array([i])} for i in range(5)])
    assert policy.sizes == [1, 2, 4, 8, 8]
    assert len(policy.threads) == 1


def oversized():
    return pack({"state": np.zeros(200_000)})


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"\xc1 not msgpack", "no msgpack message"),
        (b"", "no msgpack message"),
        (pack([1, 2]), "an observation is a dict, got list"),
        (pack(None), "an observation is a dict, got NoneType"),
        ("text", "an observation is a binary message, got text"),
        (pack({}), r"an observation has 'state' \[S\]"),
        (pack({"state": None}), "the policy could not answer this observation; the server's"),
        (pack({"explode": 1}), "the policy could not answer this observation; the server's log"),
        (
            msgpack.packb(
                {"state": {b"__ndarray__": True, b"data": b"", b"dtype": "|O", b"shape": [0]}}
            ),
            "arrays of dtype object are not sent",
        ),
        (pack({"batch": 3}), "a batch is a list of dicts"),
        (pack({"batch": [{"explode": 1}]}), "the policy could not answer"),
        (pack({"batch": [{}] * 257}), "a batch has at most 256 observations, got 257"),
    ],
)
def test_bad_messages_get_words_and_a_closed_connection_and_nothing_leaks(port, message, says):
    with connect(f"ws://127.0.0.1:{port}", compression=None) as socket:
        socket.recv()
        socket.send(message)
        answer = socket.recv()
        assert isinstance(answer, str)
        assert re.search(says, answer)
        assert "Traceback" not in answer and SECRET not in answer and ".py" not in answer
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd.code == 1011
        assert ".py" not in closed.value.rcvd.reason
    assert works(port)


def test_an_oversized_message_closes_its_own_connection_only(port):
    with Client(port=port) as other:
        with connect(f"ws://127.0.0.1:{port}", compression=None) as socket:
            socket.recv()
            with pytest.raises(ConnectionClosed) as closed:
                socket.send(oversized())
                socket.recv()
            assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
        np.testing.assert_array_equal(other.infer({"state": np.ones(1)})["actions"], [[2]] * 3)
    assert works(port)


def test_without_a_limit_large_messages_pass():
    with background(Doubling(), options(max_message_mb=0)) as port, Client(port=port) as client:
        assert client.infer(unpack(oversized()))["actions"].shape == (3, 200_000)


def test_messages_of_very_many_tiny_things_are_refused_in_little_memory():
    count = 1_000_000
    empty = b"\x80"
    rows = count // 4096
    flood = b"\x81\xa5batch\xdd" + struct.pack(">I", count) + empty * count
    nested = b"\x81\xa5batch\xdd" + struct.pack(">I", rows)
    nested += (b"\xdc\x10\x00" + empty * 4096) * rows
    policy = Doubling()
    with background(policy, options()) as port:
        assert works(port)
        tracemalloc.start()
        for message in (flood, nested):
            with connect(f"ws://127.0.0.1:{port}", compression=None) as socket:
                socket.recv()
                socket.send(message)
                assert re.search("at most (4096|262144) entries", socket.recv())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 40e6  # 72 MB if only the million dicts were made
        assert works(port)
    assert policy.sizes == [1, 1]


def test_one_bad_observation_in_a_batch_is_its_own_clients_error_only():
    policy = Doubling()
    with background(policy, options(max_batch=4, max_wait_ms=500)) as port:
        with ThreadPoolExecutor(3) as pool:
            states = [{"state": np.array([1.0])}, {"explode": 1}, {"state": np.array([3.0])}]
            all_in = threading.Barrier(3)

            def ask(observation):
                with Client(port=port) as client:
                    all_in.wait()
                    try:
                        return client.infer(observation)["actions"][0, 0]
                    except ServerError as error:
                        return str(error)

            answers = list(pool.map(ask, states))
    assert answers[0] == 2 and answers[2] == 6
    assert "could not answer" in answers[1]
    assert policy.sizes == [4, 1, 1, 1]


def test_clients_that_vanish_are_not_waited_for():
    policy = Doubling(delay=0.05)
    with background(policy, options()) as port:
        for _ in range(5):
            with connect(f"ws://127.0.0.1:{port}", compression=None) as socket:
                socket.recv()
                socket.send(pack({"state": np.zeros(1)}))
                socket.socket.shutdown(SHUT_RDWR)  # no goodbye
        assert works(port)


def test_a_slow_policy_does_not_stop_the_health_check():
    with background(Doubling(delay=1.0), options()) as port, Client(port=port) as client:
        with ThreadPoolExecutor(1) as pool:
            job = pool.submit(client.infer, {"state": np.zeros(1)})
            time.sleep(0.2)
            start = time.monotonic()
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").read()
            assert time.monotonic() - start < 0.7
            job.result()


def test_with_debug_the_traceback_is_sent():
    with background(Doubling(), options(debug=True)) as port:
        with Client(port=port) as client, pytest.raises(ServerError, match=f"Traceback.*{SECRET}"):
            try:
                client.infer({"explode": 1})
            except ServerError as error:
                raise ServerError(str(error).replace("\n", " ")) from error
        assert works(port)


@pytest.mark.parametrize("replies", [[], [{}, {}], [3], [{"actions": object()}]])
def test_a_policy_that_returns_nonsense_does_not_end_the_server(replies):
    with background(lambda observations: replies, options()) as port:
        for _ in range(2):
            with Client(port=port) as client, pytest.raises(ServerError):
                client.infer({"state": 1})


def test_by_default_nobody_outside_this_machine_is_served():
    assert Options().host == "127.0.0.1"
    assert Options().debug is False


def test_bad_options_raise_before_anybody_connects():
    before = set(threading.enumerate())
    for bad, says in (
        (options(max_batch=3), "max_batch is a power of two, got 3"),
        (options(max_wait_ms=-1), "max_wait_ms is >= 0, got -1"),
        (options(max_message_mb=-1), "max_message_mb is >= 0, got -1"),
        (options(max_asked=0), "max_asked is 1 to 4096, got 0"),
        (options(max_asked=5000), "max_asked is 1 to 4096, got 5000"),
        (options(port=70_000), "port is 0 to 65535, got 70000"),
    ):
        with pytest.raises(ValueError, match=says):
            serve(Doubling(), bad)
        with pytest.raises(ValueError, match=says), background(Doubling(), bad):
            pass
    with pytest.raises(WireError), background(Doubling(), metadata={"x": object()}):
        pass
    with pytest.raises(BadObservation, match="has 'state'"):
        serve(Doubling(), options(), example={})  # the example does not fit the policy
    with background(Doubling()) as port, pytest.raises(OSError):
        serve(Doubling(), options(port=port))
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    (tmp_path / "planted.py").write_text(
        "import numpy as np\n"
        "from rlx.serve.policy import Served\n"
        "def load(workdir):\n"
        "    policy = lambda many: [{'actions': o['state'][None] + 1} for o in many]\n"
        "    return Served(policy, {'from': workdir.name}, {'state': np.zeros(2)})\n"
    )
    arguments = ["-m", "rlx.serve", str(tmp_path), "--policy=planted:load", "--port=0"]
    paths = os.pathsep.join([str(tmp_path), os.getcwd()])
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs, and so this test in one, ignore SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        line = process.stdout.readline()
        assert line.startswith(f"serving {tmp_path} at ws://127.0.0.1:")
        with Client(port=int(line.rpartition(":")[2])) as client:
            assert client.metadata == {"from": tmp_path.name}
            reply = client.infer({"state": np.array([1, 2])})
            np.testing.assert_array_equal(reply["actions"], [[2, 3]])
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read().strip() == "interrupted"
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_is_taken_is_one_line(tmp_path, monkeypatch):
    served = Served(Doubling(), {}, {"state": np.zeros(1)})
    monkeypatch.setattr(command, "load", lambda name, workdir: served)
    with background(Doubling()) as port:
        with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1:{port}: .*in use"):
            command.main([str(tmp_path), "--policy=a:b", f"--port={port}"])


@pytest.mark.parametrize(
    ("workdir", "policy", "says"),
    [
        ("nowhere", "a:b", "there is no workdir nowhere"),
        (".", "rlx.serve.policy", "--policy is MODULE:FUNCTION"),
        (".", "rlx.no_such:load", r"there is no module rlx.no_such"),
        (".", "rlx.serve.policy:no_such", r"rlx.serve.policy has no no_such"),
    ],
)
def test_the_command_line_says_what_is_wrong(workdir, policy, says):
    with pytest.raises(ConfigError, match=says):
        command.main([workdir, f"--policy={policy}"])
