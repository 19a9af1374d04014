"""How processes find each other, and what the functions of several do with one."""

from __future__ import annotations

import http.server
import io
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from rlx.infra import cluster, distributed, sharding, signals
from rlx.infra.console import Prefixed
from rlx.infra.errors import ConfigError

GIVEN = {"RLX_COORDINATOR": "10.0.0.1:8476", "RLX_NUM_PROCESSES": "4", "RLX_PROCESS_ID": "3"}


def test_the_variables_describe_the_group():
    assert cluster.from_variables(GIVEN) == ("10.0.0.1:8476", 4, 3)
    assert cluster.from_variables({}) is None
    assert cluster.from_variables(GIVEN | {"RLX_COORDINATOR": "[::1]:99"}).address == "[::1]:99"


def test_one_process_is_no_group():
    one = {"RLX_NUM_PROCESSES": "1", "RLX_PROCESS_ID": "0"}
    assert cluster.from_variables(GIVEN | one) is None
    assert cluster.from_variables({"RLX_NUM_PROCESSES": "1"}) is None


@pytest.mark.parametrize("name", cluster.VARIABLES)
def test_a_missing_variable_is_named(name):
    with pytest.raises(ConfigError, match=f"given without {name}: several processes need"):
        cluster.from_variables({k: v for k, v in GIVEN.items() if k != name})


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("RLX_COORDINATOR", "10.0.0.1", "host:port, such as 10.0.0.1:8476, got '10.0.0.1'"),
        ("RLX_COORDINATOR", "10.0.0.1:x", "got '10.0.0.1:x'"),
        ("RLX_COORDINATOR", "a:70000", "got 'a:70000'"),
        ("RLX_NUM_PROCESSES", "two", "RLX_NUM_PROCESSES is a whole number >= 1, got 'two'"),
        ("RLX_NUM_PROCESSES", "0", "RLX_NUM_PROCESSES is a whole number >= 1, got '0'"),
        ("RLX_PROCESS_ID", "-1", "RLX_PROCESS_ID is a whole number >= 0, got '-1'"),
        ("RLX_PROCESS_ID", "4", r"from 0 to 3 \(RLX_NUM_PROCESSES = 4\), got 4"),
    ],
)
def test_a_bad_value_is_named(name, value, text):
    with pytest.raises(ConfigError, match=text):
        cluster.from_variables(GIVEN | {name: value})


@pytest.mark.parametrize("value, ok", [("3", True), ("0.5", True), ("0", False), ("soon", False)])
def test_the_time_limit(value, ok):
    env = {"RLX_COORDINATOR_TIMEOUT": value}
    if ok:
        assert cluster.timeout(env) == float(value)
    else:
        with pytest.raises(ConfigError, match=f"RLX_COORDINATOR_TIMEOUT .*got '{value}'"):
            cluster.timeout(env)
    assert cluster.timeout({}) == 120.0


SLURM = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}
POD = {"TPU_WORKER_HOSTNAMES": "a,b,c,d", "TPU_WORKER_ID": "1"}


@pytest.mark.parametrize(
    "env, kind",
    [
        ({}, None),
        (SLURM, "Slurm"),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, None),  # a batch script, no step of two
        (SLURM | {"RLX_NUM_PROCESSES": "1"}, None),
        (POD, "TPU pod"),
        (POD | {"JAX_PLATFORMS": "cpu"}, None),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"MEGASCALE_NUM_SLICES": "2", "TPU_WORKER_HOSTNAMES": "localhost"}, "TPU pod"),
    ],
)
def test_a_cluster_is_joined_only_where_there_is_more_than_one_process(env, kind):
    assert cluster.detected(env) == kind


def test_the_hosts_of_slices_are_counted():
    assert cluster.tpu_hosts(POD) == 4
    assert cluster.tpu_hosts(POD | {"MEGASCALE_NUM_SLICES": "3"}) == 12


def test_the_metadata_server_is_read_and_its_absence_is_no_error():
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path.endswith("/worker-network-endpoints")
            flavoured = self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if known and flavoured else 404)
            self.end_headers()
            self.wfile.write(b"a:b:10.0.0.1,a:b:10.0.0.2" if known else b"")

        def log_message(self, *args):
            del args

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    name = f"127.0.0.1:{server.server_port}"
    assert cluster.metadata(name, "worker-network-endpoints").count(",") == 1
    assert cluster.metadata(name, "else") == ""
    server.shutdown()
    server.server_close()
    assert cluster.metadata(name, "worker-network-endpoints") == ""


def test_a_coordinator_is_waited_for_and_named_when_it_does_not_answer():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(ConfigError, match=f"{address} did not answer within 0.5 s"):
            cluster.wait_for(address, 0.5)
        assert 0.4 < time.monotonic() - began < 5
        late = threading.Timer(0.3, listener.listen)
        late.start()
        cluster.wait_for(address, 30)
        late.join()
        with pytest.raises(ConfigError, match=r"did not answer within 0\.3 s"):
            cluster.wait_for("no-such-host.invalid:1", 0.3)


def test_a_port_in_use_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "PORT_SECONDS", 0.1)
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} .*choose another RLX_COORDINATOR"):
            cluster.check_free(f"127.0.0.1:{port}")
    cluster.check_free(f"127.0.0.1:{port}")


def test_with_one_process_everything_is_that_process():
    distributed.initialize()
    assert (distributed.process_count(), distributed.process_index()) == (1, 0)
    assert distributed.is_main()
    value = ("kept", "as it is")
    assert distributed.exchange(value, "x") == [value]
    assert distributed.exchange(value, "x")[0] is value
    assert distributed.broadcast(value, "x") is value
    assert distributed.any_process(True, "x") and not distributed.any_process(False, "x")
    assert distributed.barrier("x") is None
    assert distributed.on_main(lambda: value, "x") is value
    assert not distributed.by_peer(RuntimeError("Gloo: connection closed by peer"))


def test_the_first_reason_of_any_process_stops_all():
    stop: list[str] = []
    assert signals.settle(stop, [[], []]) is None and stop == []
    assert signals.settle(stop, [[], ["preempted"]]) == "preempted" and stop == ["preempted"]
    own = ["interrupted"]
    assert signals.settle(own, [["preempted"], ["interrupted"]]) == "preempted"
    assert own == ["preempted", "interrupted"]  # a second Ctrl-C still interrupts


def devices(*owners: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(process_index=owner, id=i) for i, owner in enumerate(owners)]


def test_a_mesh_takes_as_many_devices_of_every_process():
    eight = devices(0, 0, 0, 0, 1, 1, 1, 1)
    assert [d.id for d in sharding.spread(eight, 8)] == list(range(8))
    assert [d.id for d in sharding.spread(eight, 4)] == [0, 1, 4, 5]
    assert [d.id for d in sharding.spread(devices(1, 0, 1, 0), 4)] == [1, 3, 0, 2]
    with pytest.raises(ConfigError, match=r"a mesh of 1 devices .* of the 2 processes"):
        sharding.spread(eight, 1)
    assert [d.id for d in sharding.spread(devices(0, 0, 0), 2)] == [0, 1]


def test_lines_of_other_processes_begin_with_their_name():
    stream = io.StringIO()
    prefixed = Prefixed(stream, "[process 1] ")
    print("one\ntwo", file=prefixed)
    prefixed.write("th")
    prefixed.write("ree\n")
    assert stream.getvalue() == "[process 1] one\n[process 1] two\n[process 1] three\n"
    assert not prefixed.isatty()
