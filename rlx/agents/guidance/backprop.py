"""Fine-tuning by the reward's own gradient, through the last steps of the walk (DRaFT: Clark et al.
2023, arXiv 2309.17400; for discrete models DRAKES: Wang et al. 2024, arXiv 2410.13643).

Per gradient step, one Adam step on
  -mean_B r(x_0) + alpha mean_B sum_t KL(p_theta(.|x_t) || p_pre(.|x_t)),  x_T ... x_0 ~ p_theta
whose minimum over all chains is p_pre exp(r / alpha) / Z. States of the steps T ... K + 1 are
constants: their kernels learn from the KL alone. Draws are reparameterised (Gaussians) or straight
through (tokens).
Differs from DRAKES: every step is straight through, not the last alone, so that states are samples
of the model and the sum of KLs is that of the two walks.
Batches: obs [B, O]; the rest is drawn here.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import chains
from rlx.nn.chains import Chain, Kernel
from rlx.ops import learning
from rlx.ops.learning import State
from rlx.ops.shards import pmean_if, rows
from rlx.types import EnvSpec, Keys, Learner, Metrics, PyTree, Transition

HP = ("lr", "alpha", "max_grad_norm")


def get_config() -> ConfigDict:
    """Return DRAKES' constants for DNA; it accumulates 4 batches of 32."""
    return ConfigDict(
        dict(
            name="backprop",
            batch_size=128,  # samples per gradient step, over all devices
            lr=1e-4,  # Adam
            alpha=1e-3,  # temperature, in reward units
            last_steps=50,  # K, through which gradients flow; all if there are no more
            max_grad_norm=1.0,
        )
    )


def make(
    config: ConfigDict,
    spec: EnvSpec,
    axis_name: str | None = None,
    *,
    chain: Chain,
    params: PyTree,
    reward: Any,
) -> Learner:
    """Build it for the model `chain`, pre-trained to `params`, and `reward(obs, x_0) -> [n]`.

    Of tokens the reward gets one-hots `[n, L, V + 1]`, and must be differentiable in them.
    """
    del spec  # the chain knows the shapes
    if config.last_steps < 1:
        raise ValueError(f"learner.last_steps is a whole number >= 1, got {config.last_steps}")
    hp = chains.settings(config, HP)

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        del key  # the model is given; its target is what was pre-trained and never moves
        return learning.begin({"model": params}, ("model",), hp)

    def draw(keys: Keys, batch_size: int) -> PyTree:
        per_shard = batch_size // keys.keys.shape[0]
        return rows(lambda key: chains.path_noise(chain, key, per_shard), keys)

    def held(x: jax.Array, t: jax.Array) -> jax.Array:
        """The state as a constant before and at the first of the last K steps."""
        early = (t >= config.last_steps).reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(early, jax.lax.stop_gradient(x), x)

    def total(model: Any, state: State, batch: Transition, keys: Keys) -> tuple[Any, Metrics]:
        def kl(x: jax.Array, t: jax.Array, law: Kernel, y: jax.Array) -> jax.Array:
            return chain.kl(law, chain.kernel(state.target_params["model"], batch.obs, x, t))

        noise = draw(keys, batch.obs.shape[0])
        x, kls = chains.walk(chain, model, batch.obs, noise, kl, held)
        r, far = reward(batch.obs, x).mean(), kls.sum(1).mean()
        metrics = {"reward": r, "kl": far, "loss": -r + state.hp["alpha"] * far}
        return pmean_if((metrics["loss"], metrics), axis_name)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        return learning.adam_step(
            state,
            lambda params: total(params["model"], state, batch, keys),
            state.hp["max_grad_norm"],
        )

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        return total(state.params["model"], state, batch, keys)[0]

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        del explore
        noise = draw(keys, obs.shape[0])
        return chains.sample(chain, state.params["model"], obs, noise)[0], {}

    return Learner(init, update, act, td_loss, hp)
