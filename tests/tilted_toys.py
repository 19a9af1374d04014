"""Two models whose tilted law is known in closed form, with parameters that can reach it.

`tokens`: sequences of 3 tokens of 3, a random Markov chain; logits are a table of all 4**3 partial
states plus the parameters, another table.  `gaussian`: two independent numbers with a linear-
Gaussian reward; x0 is predicted by the exact posterior mean plus a line in x for each time.
"""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from numeric import f64

from rlx.nn import chains
from rlx.types import EnvSpec, Keys, Spec, Transition

V, L = 3, 3
ALPHA = 0.5
NOTHING = Spec((0,))
TOKENS = EnvSpec(NOTHING, Spec((L,), np.int32, 0, V))
VECTORS = EnvSpec(NOTHING, Spec((2,), np.float32))
STATES = np.array(list(product(range(V + 1), repeat=L)))  # [64, L]
CLEAN = (STATES < V).all(1)


def fits(state: np.ndarray) -> np.ndarray:
    """Which clean sequences agree with a partial state."""
    return ((state == V) | (STATES[CLEAN] == state)).all(1)


def tokens(heat: float = 1.0, steps: int | None = None) -> SimpleNamespace:
    """The discrete problem: p, reward r, tilted law (over clean sequences), values by state."""
    rng = np.random.default_rng(0)
    first, rows = rng.dirichlet(np.ones(V)), rng.dirichlet(np.ones(V), V)
    x = STATES[CLEAN]
    p = first[x[:, 0]] * rows[x[:, 0], x[:, 1]] * rows[x[:, 1], x[:, 2]]
    weight = np.array([[1.0, -0.5, 0.0], [0.0, 0.5, -1.0], [-0.5, 0.0, 1.0]])
    r = sum(weight[i][x[:, i]] for i in range(L)) + 1.0 * (x[:, 0] == x[:, 2])
    tilt = p * np.exp(r / ALPHA)
    agree = np.array([fits(state) for state in STATES])  # [64, 27]
    mass = agree @ p
    table = np.zeros((len(STATES), L, V))
    for i, v in product(range(L), range(V)):
        table[:, i, v] = (agree * p) @ (x[:, i] == v) / mass
    table = np.log(np.maximum(table, 1e-30)).reshape(*[V + 1] * L, L, V)
    base = jnp.asarray(table, jnp.float32)

    def predict(params, obs, x, t):
        del obs, t
        return jnp.einsum("abclv,na,nb,nc->nlv", base + params, x[:, 0], x[:, 1], x[:, 2])

    by_state = jnp.asarray(ALPHA * np.log(agree @ tilt / mass), jnp.float32)
    index = lambda x: x @ jnp.asarray([(V + 1) ** 2, V + 1, 1])  # noqa: E731
    return SimpleNamespace(
        chain=chains.masked(predict, V, L, steps, heat),
        params=jnp.zeros_like(base),
        p=p,
        r=r,
        target=tilt / tilt.sum(),
        log_z=np.log(tilt.sum()),
        soft=ALPHA * np.log(agree @ tilt / mass),
        mean=agree @ (p * r) / mass,
        mass=mass,
        table=table,
        value=lambda obs, x, t: by_state[index(x)],
        weight=weight,
        reward=lambda obs, x: (
            (x[..., :V] * jnp.asarray(weight, jnp.float32)).sum((1, 2))
            + (x[:, 0, :V] * x[:, 2, :V]).sum(-1)
        ),
        clean=lambda x: np.asarray(x) @ np.array([V**2, V, 1]),
    )


def law(table: np.ndarray, whole: bool = False):
    """The law of x_0 `[27]` under logits `table` and uniform orders, one token per step; if `whole`
    also the probability of passing each partial state, and those of the tokens.
    """
    z = table.reshape(len(STATES), L, V)
    q = np.exp(z - z.max(-1, keepdims=True))
    q /= q.sum(-1, keepdims=True)
    where = {tuple(state): i for i, state in enumerate(STATES)}
    passed = np.zeros(len(STATES))
    passed[-1] = 1.0
    for masks in range(L, 0, -1):
        for i in np.flatnonzero((STATES == V).sum(1) == masks):
            for place, v in product(np.flatnonzero(STATES[i] == V), range(V)):
                after = STATES[i].copy()
                after[place] = v
                passed[where[tuple(after)]] += passed[i] * q[i, place, v] / masks
    return (passed[CLEAN], passed, q) if whole else passed[CLEAN]


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * np.log(np.maximum(p, 1e-300) / q)).sum())


def objective(params: np.ndarray, problem: SimpleNamespace) -> float:
    """E[r] - ALPHA KL(walks) of the tokens' model, exactly."""
    return float(law(problem.table + params) @ problem.r) - ALPHA * path_kl(params, problem)


def path_kl(params: np.ndarray, problem: SimpleNamespace) -> float:
    """KL of the walks under base + params to those under base, exactly."""
    _, passed, q = law(problem.table + params, True)
    p = law(problem.table, True)[2]
    hidden = STATES == V
    share = hidden / np.maximum(hidden.sum(1, keepdims=True), 1)
    inside = (q * np.log(q / p)).sum(-1)
    return float((passed * (share * inside).sum(1)).sum())


def gaussian(steps: int = 8) -> SimpleNamespace:
    """N(0, diag(S)), r = -(2 - x_1)**2; the tilted law is a Gaussian with diagonal covariance."""
    S, s2, y = np.array([1.0, 0.5]), 0.5, 2.0
    C = 1.0 / (1.0 / S + np.array([1.0 / (s2 * ALPHA), 0.0]))
    m = C * np.array([y / (s2 * ALPHA), 0.0])
    abar = np.cos(0.45 * np.pi * np.arange(steps + 1) / steps) ** 2
    now, before = abar[1:, None], abar[:-1, None]
    prior = now * S + 1 - now  # variance of x_t
    slope = np.sqrt(now) * S / prior  # of E[x_0 | x_t]
    left = S - slope * np.sqrt(now) * S  # variance of x_0 given x_t
    share = np.sqrt(before) * (1 - now / before) / (1 - now)
    own = np.sqrt(now / before) * (1 - before) / (1 - now)
    var = (1 - now / before) * (1 - before) / (1 - now) + share**2 * left
    lines = jnp.asarray(slope, jnp.float32)

    def predict(params, obs, x, t):
        del obs
        return (lines[t - 1] + params["slope"][t - 1]) * x + params["shift"][t - 1]

    def marginal(params):
        """Mean and variance of x_0 under the parameters, exactly."""
        mean, variance = np.zeros(2), np.ones(2)
        for i in range(steps - 1, -1, -1):
            a = share[i] * (slope[i] + params["slope"][i]) + own[i]
            mean, variance = a * mean + share[i] * params["shift"][i], a**2 * variance + var[i]
        return mean, variance

    def objective(params):
        """E[r] - ALPHA KL(walks), exactly."""
        mean, variance, far = np.zeros(2), np.ones(2), 0.0
        for i in range(steps - 1, -1, -1):
            line, shift = share[i] * params["slope"][i], share[i] * params["shift"][i]
            far += (((line * mean + shift) ** 2 + line**2 * variance) / (2 * var[i])).sum()
            a = share[i] * slope[i] + own[i] + line
            mean, variance = a * mean + shift, a**2 * variance + var[i]
        return -((y - mean[0]) ** 2 + variance[0]) / (2 * s2) - ALPHA * far

    def away(params):
        """KL of the model's law to the tilted one."""
        mean, variance = marginal(f64(params))
        return 0.5 * float((variance / C - 1 - np.log(variance / C) + (mean - m) ** 2 / C).sum())

    zero = jnp.zeros((steps, 2))
    return SimpleNamespace(
        chain=chains.gaussian(predict, abar, 2, np.sqrt(var)),
        params={"slope": zero, "shift": zero},
        abar=abar,
        S=S,
        m=m,
        C=C,
        s2=s2,
        y=y,
        marginal=marginal,
        objective=objective,
        slope=slope,
        var=var,
        away=away,
        reward=lambda obs, x: -((y - x[:, 0]) ** 2) / (2 * s2),
    )


def batch(obs, action=None, reward=None, next_obs=None, terminated=None, **extras) -> Transition:
    return Transition(obs, action, reward, next_obs, terminated, None, extras)


def train(learner, batches, steps: int, keys_of, hp=None):
    """`steps` updates in one program; batches(key, state) -> Transition."""
    settings = {name: jnp.float32(value) for name, value in (learner.hp | (hp or {})).items()}

    @jax.jit
    def run(key):
        state = learner.init(key, settings)

        def step(state, key):
            data, own = jax.random.split(key)
            return learner.update(state, batches(data, state), keys_of(own))

        return jax.lax.scan(step, state, jax.random.split(key, steps))

    return run(jax.random.key(0))


def one_shard(key: jax.Array) -> Keys:
    return Keys(key[None], jnp.zeros(1, jnp.int32), key, 1)


def nothing(n: int) -> jax.Array:
    return jnp.zeros((n, 0))
