"""The learner of the FSQ tokenizer: an autoencoder of normalised action chunks.

  loss = mean over batch, steps and dims of (decode(encode(a)) - a)**2
Observation and action are the chunk `[T, A]` itself, so `act` shows what is left of it and its ids.
`rlx.tokenizers.fsq.FsqTokenizer` takes the trained parameters. Constants are ours: the reference
(openpi) gives the network and no recipe.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn.fsq import CODEBOOKS, Fsq
from rlx.ops import learning
from rlx.ops.learning import State
from rlx.ops.shards import pmean_if
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "max_grad_norm")


def get_config() -> ConfigDict:
    """Return the constants of the FSQ tokenizer."""
    return ConfigDict(
        dict(
            name="fsq",
            batch_size=256,  # chunks per gradient step, over all devices
            lr=1e-3,  # Adam
            max_grad_norm=1.0,
            tokens=16,  # ids per chunk
            codebook=1024,  # ids asked for; the levels of rlx.nn.fsq.CODEBOOKS give about as many
            width=128,  # of the attention layers
            layers=2,  # of the encoder, and of the decoder
            heads=4,
        )
    )


def network(config: ConfigDict, horizon: int, action_dim: int) -> Fsq:
    """Return the network for chunks `[horizon, action_dim]`; ValueError for bad settings."""
    if config.codebook not in CODEBOOKS:
        raise ValueError(
            f"learner.codebook is one of {', '.join(map(str, CODEBOOKS))}, got {config.codebook}"
        )
    if config.width % config.heads:
        raise ValueError(
            f"learner.width {config.width} is no multiple of learner.heads {config.heads}"
        )
    if config.tokens < 1 or config.layers < 1:
        raise ValueError(
            f"learner.tokens and learner.layers are integers >= 1, got {config.tokens} and "
            f"{config.layers}"
        )
    return Fsq(
        horizon=horizon,
        action_dim=action_dim,
        levels=CODEBOOKS[config.codebook],
        tokens=config.tokens,
        width=config.width,
        layers=config.layers,
        heads=config.heads,
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build the autoencoder for chunks `spec.action.shape` = `[T, A]`, averaged over `axis_name`.

    Raises ValueError for actions that are no chunk and settings out of range.
    """
    shape = tuple(spec.action.shape)
    if len(shape) != 2 or not math.prod(shape):
        raise ValueError(f"fsq encodes chunks [T, A], got actions of shape {list(shape)}")
    net = network(config, *shape)
    hp = learning.settings(config, HP)

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        params = {"fsq": net.init(key, jnp.zeros((1, *shape)))}
        return learning.begin(params, (), hp)

    def loss(params: dict, batch: Transition) -> tuple[jax.Array, Metrics]:
        error = jnp.mean((net.apply(params["fsq"], batch.action) - batch.action) ** 2)
        return pmean_if((error, {"loss": error}), axis_name)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        del keys  # nothing is drawn
        return learning.adam_step(
            state, lambda params: loss(params, batch), state.hp["max_grad_norm"]
        )

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        del keys
        return loss(state.params, batch)[0]

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        del keys, explore
        params = state.params["fsq"]
        ids = net.apply(params, obs, method=net.encode)
        return net.apply(params, ids, method=net.decode), {"ids": ids}

    return Learner(init, update, act, td_loss, hp)
