"""Fake devices do what one does: the device count is no part of an experiment.

One process for each device count writes its numbers; the test compares the files. Few updates, no
timing: fake devices share two cores. Rounding grows through Adam and the environment, hence the
tolerances of the specification: parameters 1e-5 after 20 updates, 1e-3 after 50, losses 1e-2.
"""

from __future__ import annotations

import numpy as np
import pytest

# Trains on a run x data mesh; saves parameters after 20 and 50 updates, loss sums every 20 to 200.
TRAIN = """
import sys
sys.path.insert(0, "tests")
import jax, numpy as np
from toys import tiny
from rlx.infra import checkpoint

mesh, runs, out = {mesh}, {runs}, {out!r}
assert len(jax.devices()) == {devices}
program = tiny(16, runs=runs, mesh=mesh, algo={algo!r}, **{settings})
state = program.run(program.start(range(runs)), 4, 1, 0, random=True)
saved, losses = {{}}, []

def params(state):
    flat = jax.tree.leaves(jax.device_get((state.learner.params, state.learner.target_params)))
    return np.concatenate([leaf.reshape(runs, -1) for leaf in flat], axis=1)

for count in range(10, 201, 10):
    before = np.asarray(state.metrics.learner["critic_loss"]).copy()
    state = program.run(state, 1, 1, 10)
    losses.append(np.asarray(state.metrics.learner["critic_loss"]) - before)
    if count in (20, 50):
        saved[f"params_{{count}}"] = params(state)
    if count == 20:
        store = checkpoint.Checkpoints(out + "_store")
        store.save(int(state.step), state, {{"note": 1}}, {{"params": state.learner.params}})
        store.close()
seen = np.asarray(state.buffer.obs)[:, :4]
np.savez(out, losses=np.array(losses), prefill=seen, **saved)
"""

# Prefill and 20 updates, with the data axis over one device and over two; compares them.
SHORT = """
import sys
sys.path.insert(0, "tests")
import jax, numpy as np
from toys import tiny

def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(tree))])

def trained(devices):
    program = tiny(16, mesh=(1, devices))
    state = program.start([0])
    before = flat(state.learner.params)
    state = program.run(program.run(state, 4, 1, 0, random=True), 2, 1, 10)
    assert int(state.grad_steps) == 20
    assert len(state.buffer.obs.sharding.device_set) == devices
    learner = state.learner
    return before, flat(learner.params), flat(learner.target_params), state.metrics.learner

one, two = trained(1), trained(2)
np.testing.assert_array_equal(two[0], one[0])
np.testing.assert_allclose(two[1], one[1], rtol=0, atol=1e-5)
np.testing.assert_allclose(two[2], one[2], rtol=0, atol=1e-5)
assert np.abs(one[1] - one[0]).max() > 1e-3, "nothing was learned"
assert "critic_grad_norm" in one[3]
for name, value in one[3].items():
    np.testing.assert_allclose(two[3][name], value, rtol=1e-3, atol=1e-3, err_msg=name)
"""

# Restores the checkpoint another device count wrote after 20 updates and goes on to 50.
RESTORE = """
import sys
sys.path.insert(0, "tests")
import jax, numpy as np
from toys import tiny
from rlx.infra import checkpoint

assert len(jax.devices()) == {devices}
program = tiny(16, runs={runs}, mesh={mesh})
state, host = checkpoint.Checkpoints({store!r}).restore(program.compiled.template)
assert host == {{"note": 1}} and int(state.grad_steps) == 20
state = program.run(state, 3, 1, 10)
flat = jax.tree.leaves(jax.device_get((state.learner.params, state.learner.target_params)))
np.savez({out!r}, params_50=np.concatenate([x.reshape({runs}, -1) for x in flat], axis=1))
"""


def test_two_devices_on_the_data_axis_learn_the_parameters_of_one(run_python):
    """Guards the gradients under shard_map: summed instead of averaged ones show in their norms,
    though hardly in the parameters, since Adam does not mind their scale.
    """
    run_python(SHORT, devices=2)


@pytest.fixture(scope="module")
def train(run_python, tmp_path_factory):
    """Train on a mesh in a process of its own: (folder, function that returns the numbers)."""
    folder = tmp_path_factory.mktemp("devices")

    def train(name, devices, mesh, runs, algo="sac", **settings):
        out = str(folder / name)
        code = TRAIN.format(
            devices=devices, mesh=mesh, runs=runs, out=out, algo=algo, settings=settings
        )
        run_python(code, devices=devices, timeout=900)
        return dict(np.load(out + ".npz"))

    return folder, train


@pytest.fixture(scope="module")
def trained(train):
    """Numbers of one run on 1 and on 8 devices, and of two runs on a 2 x 4 mesh."""
    folder, train = train

    return folder, {
        "one": train("one", 1, (1, 1), 1),
        "eight": train("eight", 8, (1, 8), 1),
        "grid": train("grid", 8, (2, 4), 2),
    }


@pytest.mark.slow
@pytest.mark.parametrize("other", ["eight", "grid"])
def test_parameters_and_losses_agree_with_one_device(trained, other):
    _, found = trained
    one, many = found["one"], found[other]
    np.testing.assert_allclose(many["prefill"][:1], one["prefill"], atol=1e-6)
    np.testing.assert_allclose(many["params_20"][:1], one["params_20"], atol=1e-5)
    np.testing.assert_allclose(many["params_50"][:1], one["params_50"], atol=1e-3)
    np.testing.assert_allclose(many["losses"][:, :1], one["losses"], rtol=1e-2)
    assert np.abs(one["params_50"] - one["params_20"]).max() > 1e-3  # it did learn


@pytest.mark.slow
@pytest.mark.parametrize(
    "writer, devices, mesh", [("one", 8, (1, 8)), ("eight", 1, (1, 1))], ids=["1_to_8", "8_to_1"]
)
def test_a_checkpoint_moves_between_device_counts(trained, run_python, writer, devices, mesh):
    folder, found = trained
    out = str(folder / f"from_{writer}")
    store = str(folder / f"{writer}_store")
    code = RESTORE.format(devices=devices, mesh=mesh, runs=1, store=store, out=out)
    run_python(code, devices=devices, timeout=600)
    moved = np.load(out + ".npz")["params_50"]
    np.testing.assert_allclose(moved, found[writer]["params_50"], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "algo, settings", [("bro", {"reset_at": (30,)}), ("pql", {}), ("pql", {"atoms": 11})]
)
def test_bro_and_pql_learn_the_same_on_eight_devices(train, algo, settings):
    """With a reset on the way: its new weights are drawn from what all devices share."""
    name = algo + "".join(settings)
    one = train[1](f"{name}_one", 1, (1, 1), 1, algo, **settings)
    eight = train[1](f"{name}_eight", 8, (1, 8), 1, algo, **settings)
    np.testing.assert_allclose(eight["params_20"], one["params_20"], atol=1e-5)
    np.testing.assert_allclose(eight["params_50"], one["params_50"], atol=1e-3)
    np.testing.assert_allclose(eight["losses"], one["losses"], rtol=1e-2)
    assert np.abs(one["params_50"] - one["params_20"]).max() > 1e-3
