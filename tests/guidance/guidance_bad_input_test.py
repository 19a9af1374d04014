"""Bad input of guided sampling: what the user reads. (Bad rewards: guide_test.py.)"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from rlx.guidance import Config, ddpm, flow, function, guide, posterior_mean, suggest_alpha
from rlx.guidance.resampling import ess
from rlx.guidance.testbeds import linear_gaussian, markov_chain

BED = markov_chain.reference()
PROCESS, REWARD, VALUE = BED.process(), BED.reward(), BED.value(0.5, "mean")
GAUSS = linear_gaussian.reference(6)
KEYS = (0, 1)


def keys():
    return jax.random.split(jax.random.key(0), 2)


def run(process=PROCESS, value=VALUE, reward=REWARD, **settings):
    more = {name: settings.pop(name) for name in ("on_collapse", "designs") if name in settings}
    return guide(keys(), process, value, reward, Config(**{"particles": 4} | settings), **more)


def ode():
    return flow(lambda x, tau: x, 4, (2,), eta=0.0)


REFUSED = [
    (dict(alpha=-0.1), "alpha must be >= 0; it is a temperature in reward units, got -0.1"),
    (dict(alpha=float("nan")), "alpha must be >= 0; it is a temperature in reward units, got nan"),
    (dict(alpha=np.array([0.5, -1.0])), "alpha must be >= 0; it is a temperature in reward units"),
    (
        dict(alpha=float("inf")),
        "alpha is finite, got inf; for the pre-trained law take method none",
    ),
    (dict(alpha=1e-40), "alpha is 0 or >= 1e-30, got 1e-40"),
    (dict(alpha=np.ones(3)), "alpha has shape (3,), expected () or (2,), one a problem"),
    (dict(alpha=0.0), "alpha = 0 has no limit in smc: greedy methods are svdd, beam, bon"),
    (dict(alpha=0.0, method="tds"), "alpha = 0 has no limit in tds"),
    (dict(alpha=0.0, method="soft_bon"), "alpha = 0 has no limit in soft_bon"),
    (dict(alpha=0.0, method="nested"), "alpha = 0 has no limit in nested"),
    (dict(alpha=0.0, method="cg"), "alpha = 0 has no limit in cg"),
    (dict(method="rerd", alpha_global=0.0), "alpha_global = 0 has no limit in between rounds"),
    (dict(method="svd"), "method is one of none, bon"),
    (dict(method="svd"), "got 'svd'; nearest: svdd"),
    (dict(resampling="systemic"), "resampling is one of systematic, stratified"),
    (dict(potential="maximum"), "nearest: max"),
    (dict(particles=0), "particles is a whole number >= 1, got 0"),
    (dict(particles=2.5), "particles is a whole number >= 1, got 2.5"),
    (dict(method="cg", guidance=-1.0), "guidance is a finite number >= 0, got -1.0"),
    (dict(method="cg", clip_norm=0.0), "clip_norm is a finite number >= 1e-30, got 0.0"),
    (dict(ascent_rate=float("inf")), "ascent_rate is a finite number >= 0, got inf"),
    (dict(exploration=float("nan")), "exploration is a finite number >= 0, got nan"),
    (dict(child_bytes=0), "child_bytes is a finite number >= 1, got 0"),
    (dict(method="svdd", children=0), "children is a whole number >= 1, got 0"),
    (dict(method="svdd", children=6, child_chunk=4), "child_chunk = 4 must divide children = 6"),
    (dict(ess_fraction=1.5), "ess_fraction is a share of the particles in [0, 1], got 1.5"),
    (dict(first=0.8, last=0.5), "0 <= first < last <= 1, got first = 0.8, last = 0.5"),
    (dict(fraction=0.0), "fraction is a share of a sample in (0, 1], got 0.0"),
    (dict(method="beam", depth=4), "depth = 4 must divide the 6 steps"),
    (dict(method="nested", potential="max"), "nested takes potential diff only, got 'max'"),
    (dict(value=None), "smc needs a value, got None"),
    (dict(method="cg", gradient="taylor"), "gradient = 'taylor' needs a value of soft tokens"),
    (dict(method="cg", at="mu"), "are for continuous processes"),
    (dict(designs=np.zeros((2, 4, 6), int)), "designs are refined by rerd and ga, not by smc"),
    (
        dict(method="ga", designs=np.zeros((2, 3, 6), int)),
        "designs have shape (2, 3, 6), expected (2, 4, ...)",
    ),
    (dict(on_collapse="ignore"), "on_collapse is one of flag, raise, got 'ignore'"),
    (dict(reward=lambda x: x[..., 0, 0] * 1.0), "has shape (2,), expected (2, 4)"),
    (dict(value=function(lambda x, t, alpha: x * 1.0)), "value of x (2, 4, 6) has shape (2, 4, 6)"),
]


@pytest.mark.parametrize(("settings", "says"), REFUSED, ids=[says[:40] for _, says in REFUSED])
def test_refused_before_anything_runs(settings, says):
    with pytest.raises(ValueError) as error:
        run(**settings)
    assert says in str(error.value)


@pytest.mark.parametrize("settings", [dict(), dict(method="svdd", particles=1)])
def test_deterministic_processes_make_identical_children(settings):
    value = function(lambda x, t, alpha: x.sum(-1))
    with pytest.raises(ValueError, match="children are identical: eta = 0"):
        run(ode(), value, lambda x: x.sum(-1), **settings)
    alone = run(ode(), value, lambda x: x.sum(-1), method="cg", particles=1)
    assert np.isfinite(alone.x0).all()  # one guided particle needs no noise


def test_gradient_methods_on_rewards_without_a_gradient():
    def host(x):
        like = jax.ShapeDtypeStruct(x.shape[:2], jnp.float32)
        return jax.pure_callback(lambda x: np.float32(np.asarray(x).sum(-1)), like, x)

    process = ddpm(lambda x, t: x, np.array([1.0, 0.5, 0.1]), (2,))
    for reward in (host, lambda x: jnp.round(x).sum(-1), lambda x: (x > 0).sum(-1)):
        with pytest.raises(ValueError, match=r"no (slope|gradient).*use smc or svdd"):
            run(process, posterior_mean(process, reward), reward, method="cg")


def test_too_cold_for_so_few_particles_warns_with_a_better_temperature():
    value = GAUSS.value(1e-5, "mean")
    with pytest.warns(UserWarning, match=r"effective sample size < 1.5 .*suggest_alpha"):
        out = run(GAUSS.process(), value, GAUSS.reward(), alpha=1e-5, particles=16)
    alpha = suggest_alpha(out.moves)
    sizes = np.median(ess(out.moves / alpha[None, :, None]), axis=0)
    np.testing.assert_allclose(sizes, 8.0, rtol=1e-2)


def test_a_process_that_leaves_the_mask_is_found_out():
    @struct.dataclass
    class Lazy(type(PROCESS)):
        """Sets position 1 and nothing else."""

        def kernel(self, x, prediction, t):
            made = super().kernel(x, prediction, t)
            return made._replace(logits=jnp.full_like(made.logits, -jnp.inf).at[:, :, 1].set(0.0))

    lazy = Lazy(PROCESS.network, PROCESS.length, PROCESS.tokens)
    with pytest.raises(RuntimeError, match="the mask, token 4, is left in x0"):
        run(lazy, None, lambda x: x.sum(-1) * 1.0, method="bon")
