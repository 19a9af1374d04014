"""SAC, BRO or PQL at chosen updates-to-data ratios, and the laws fitted through them.

Follows 'Value-Based Deep RL Scales Predictably' (Rybkin et al. 2025, arXiv 2502.04327): train at
several UTDs sigma with batch size and learning rate from a rule, find the transitions D_J(sigma)
that each return J takes, fit D_J = Dmin + (beta / sigma)**alpha, and minimise the budget F = C +
delta * D over sigma.

Options: `smoke` (a solved pendulum, under a minute), `demo` (a whole sweep on 2 CPU cores in
minutes, one batch size so that it compiles once), `grid` (batch sizes x learning rates x UTDs, for
the rules of both), `sizes` (critic widths x UTDs, for the joint law), `study` (what the README's
comparison of algorithms and tasks ran), `published` (as the paper of the algorithm ran it, one
environment for SAC and BRO), `net=mlp|bronet|simba|simba_v2` (SAC's networks with their settings),
`algo=sac|bro|pql` and
`env=NAME` (with their entries of configs/tuned/scaling_laws.py).
Default: CartpoleSwingup on MJX, networks and batch for a CPU. Expected there: return above 650 at
UTD 8 within 15 000 transitions, six minutes on 2 cores (`python -m experiments.scaling_laws
--utd=8`).
On accelerators `wide` is the default: 128 envs, 8 seeds, longer runs at lower UTDs for MJX tasks,
the published networks where nothing else is tuned; other environments stay as they are.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.common import Override, parse_arg, product
from configs.tuned.scaling_laws import STUDY_ENV, TUNED
from rlx.agents import bro, pql, sac

AGENTS = {"sac": sac, "bro": bro, "pql": pql}


def get_config(arg: str = "") -> ConfigDict:
    """Return the config; `arg` is a comma list of the options above."""
    flags = {"smoke": False, "demo": False, "wide": False, "study": False, "grid": False}
    flags |= {"sizes": False, "published": False}
    option = parse_arg(arg, **flags, algo="sac", net="mlp", env="")
    if option.algo not in AGENTS:
        raise ValueError(f"config option 'algo' is {', '.join(AGENTS)}, got '{option.algo}'")
    if option.net not in NETWORKS or (option.net != "mlp" and option.algo != "sac"):
        raise ValueError(
            f"config option 'net' is {', '.join(NETWORKS)}, of algo=sac alone, got '{option.net}'"
        )
    if option.algo == "pql" and (option.study or option.demo):
        raise ValueError("config options 'study' and 'demo' are for algo=sac and algo=bro")
    env_name = option.env or ("pendulum" if option.smoke else "CartpoleSwingup")
    config = ConfigDict(
        dict(
            seed=0,
            num_seeds=4,  # seeds 0, 1, ... of every UTD, as one program
            tag="",  # ends the name of the default workdir: demo, wide, smoke
            workdir=placeholder(str),  # default results/scaling_laws/ENV[_TAG]
            resume_from=placeholder(str),  # workdir of a run to go on from, all of its state
            init_from=placeholder(str),  # workdir of a run whose parameters to begin with
            env=dict(
                name=env_name,
                impl="auto",  # physics of MJX tasks: jax, warp (CUDA) or auto
                num_envs=8,
                episode_length=placeholder(int),  # physics frames; default: the environment's own
                action_repeat=1,  # physics frames per transition
                reset="pool",  # pool, cached or fresh
                pool_size=64,  # initial states made once per run
            ),
            learner=AGENTS[option.algo].get_config(),
            width=placeholder(int),  # of the critic's layers; default: learner.critic_hidden
            rule=dict(  # batch size and learning rate as functions of the UTD
                batch_size=True,  # False: learner.batch_size at every UTD
                lr=True,  # False: learner.lr at every UTD
                benchmark="dmc",  # whose published slopes: dmc or gym
                anchor_utd=8.0,  # where learner.batch_size and lr hold; 0: published values
            ),
            train=dict(
                utd=8.0,  # gradient steps per transition: a number or a fraction such as 1/16
                env_steps=15_000,  # transitions, random ones included
                learning_starts=placeholder(int),  # random transitions; default max(1000, batch)
                chunk_seconds=10.0,  # length of one dispatch; changes no result
                log_every=placeholder(int),  # transitions; default 1 % of the run
                eval_every=placeholder(int),  # transitions; default 2.5 % of the run
            ),
            sweep=dict(
                utd=(0.5, 1.0, 2.0, 4.0, 8.0),  # what runs when no --utd is given
                env_steps=(40_000, 30_000, 22_000, 16_000, 15_000),  # of each; () = train.env_steps
                batch_size=(),  # several: a grid, every one at every UTD; () = rule or learner
                lr=(),  # the same for learning rates, in one program
                width=(),  # the same for critic widths
            ),
            search=dict(  # experiments/search.py: successive halving
                points=16,  # settings of the first rung
                rungs=3,
                eta=2,  # each rung keeps 1 / eta of the settings and trains eta times as long
                ranges=dict(lr=(1e-4, 1e-2)),  # numeric settings of the learner, log-uniform
            ),
            fit=dict(
                thresholds=(300.0, 350.0, 400.0, 450.0, 500.0, 550.0, 600.0, 650.0),  # levels J
                return_range=(0.0, 1000.0),  # raw returns that count as 0 and 1000
                bootstrap=1000,
                interpolate=True,  # crossings between two evaluations
                delta=placeholder(float),  # price of a transition in FLOPs; default see rlx.scaling
                holdout=2,  # top J kept out of the budget law, to measure extrapolation
            ),
            eval=dict(episodes=16),  # one per initial state, the same ones at every evaluation
            data=dict(capacity=placeholder(int), n_step=1),  # default min(1e6, train.env_steps)
            checkpoint=dict(
                keep=2,
                keep_every=placeholder(int),  # vector steps whose checkpoints stay for good
                every_seconds=600.0,
                every_steps=placeholder(int),  # transitions
                buffer=True,  # save the replay ring too: without it a resume is not exact
                buffer_limit_gb=20.0,  # larger rings are left out
            ),
            log=dict(wandb="offline"),  # off, offline or online
            mesh=dict(
                run=0,  # devices over the runs; 0 = as many as there are and runs can fill
                data=-1,  # devices over environments and batch; -1 = the rest (1 on a CPU)
                fsdp=1,
                shards=placeholder(int),  # logical shards; default 8, 4, 2 or 1
            ),
        )
    )
    mjx = env_name[:1].isupper()  # playground's names; the others are fast as they are
    wide = option.wide and mjx
    layers = {
        "algo": ALGO[option.algo],
        "wide": WIDE | WIDE_ALGO[option.algo] if wide else {},
        "tuned": TUNED[option.algo].get(env_name, {}),  # what is tuned for a task beats `wide`
        "published": PUBLISHED[option.algo] if option.published else {},
        "net": NETWORKS[option.net],
        "demo": DEMO if option.demo else {},
        "smoke": SMOKE | SMOKE_ALGO[option.algo] if option.smoke else {},
        "study": STUDY | STUDY_ENV[option.algo].get(env_name, {}) if option.study else {},
        "grid": GRID if option.grid else {},
        "sizes": SIZES if option.sizes else {},
    }
    for layer in layers.values():
        config.update_from_flattened_dict(layer)
    named = ("wide", "demo", "smoke", "study", "grid", "sizes", "published")
    shown = [option.algo] if option.algo != "sac" else []
    shown += [option.net] if option.net != "mlp" else []
    config.tag = "_".join([*shown, *(name for name in named if layers[name])])
    return config


PACKED = {"seed": "seed", "learner.lr": "lr"}  # field: the flag that runs several in one program
FLAGS = {  # other flags that set a field of the sweep: no flags for the jobs of a sweep over it
    "utd": "train.utd",
    "batch_size": "learner.batch_size",
    "width": "width",
    "seeds": "seed",
    "config.num_seeds": "seed",
}


def get_sweep(arg: str = "") -> Iterator[Override]:
    """Yield the config's own `sweep` section, times the seeds, for tpu/launch.py."""
    config = get_config(arg)
    fields = {
        "train.utd": config.sweep.utd,
        "learner.batch_size": config.sweep.batch_size,
        "width": config.sweep.width,
        "learner.lr": config.sweep.lr,
        "seed": range(config.num_seeds),
    }
    return product({field: values for field, values in fields.items() if values})


SMALL_PQL = {"learner.critic_hidden": (128, 64), "learner.actor_hidden": (128, 64)}
ALGO = {  # what an algorithm needs beside its own constants; networks for a CPU
    "sac": {},
    "bro": {
        "learner.critic_hidden": (64, 64),
        "learner.actor_hidden": (64,),
        "learner.quantiles": 32,
        "learner.reset_at": (),
        "learner.reset_every": 2_500_000,  # as the scaling studies reset at every UTD
    },
    "pql": SMALL_PQL
    | {
        "env.num_envs": 1024,
        "learner.batch_size": 512,
        "data.n_step": 3,
        "data.capacity": 1_000_000,
        "rule.batch_size": False,
        "rule.lr": False,
        "train.utd": 8 / 1024,  # eight critic updates per vectorised step
        "train.env_steps": 2_000_000,
        "train.learning_starts": 32 * 1024,
        "sweep.utd": (2 / 1024, 4 / 1024, 8 / 1024, 16 / 1024),
        "sweep.env_steps": (),
    },
}


WIDE = {
    "num_seeds": 8,
    "env.num_envs": 128,
    "train.utd": 0.5,
    "train.env_steps": 2_000_000,
    "sweep.utd": (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0),
    "sweep.env_steps": (),
    "rule.anchor_utd": 1 / 16,
    "eval.episodes": 128,
}


def constants(agent: ModuleType, *names: str) -> dict[str, Any]:
    """Overrides that put fields of a learner back to its published constants."""
    published = agent.get_config()
    return {f"learner.{name}": published[name] for name in names}


WIDE_ALGO = {
    "sac": {
        "learner.critic_hidden": (256, 256),
        "learner.actor_hidden": (256, 256),
        "learner.batch_size": 512,
    },
    "bro": constants(bro, "critic_hidden", "actor_hidden", "batch_size", "quantiles")
    | {"rule.anchor_utd": 0.0},  # the published rule is BRO's own
    "pql": constants(pql, "critic_hidden", "actor_hidden", "batch_size")
    | {
        "env.num_envs": 4096,
        "data.capacity": 5_000_000,
        "learner.reward_scale": 1.0,
        "train.utd": 8 / 4096,
        "train.env_steps": 50_000_000,
        "train.learning_starts": 32 * 4096,
        "sweep.utd": (2 / 4096, 4 / 4096, 8 / 4096, 16 / 4096),
    },
}
DEMO = {
    "sweep.utd": (1.0, 2.0, 4.0, 8.0),
    "sweep.env_steps": (30_000, 22_000, 16_000, 13_000),
    "rule.batch_size": False,
    "log.wandb": "off",
}
SMOKE = {
    "num_seeds": 1,
    "train.utd": 0.5,
    "train.env_steps": 8_000,
    "sweep.utd": (0.5,),
    "sweep.env_steps": (),
    "rule.batch_size": False,
    "rule.lr": False,
    "log.wandb": "off",
}
STUDY = {  # algorithms and tasks compared: six UTDs, six seeds, one batch size, one compile
    "num_seeds": 6,
    "learner.batch_size": 128,
    "rule.batch_size": False,
    "sweep.utd": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    "log.wandb": "off",
}
NETWORKS = {  # sizes for a CPU; the published ones: critic (512, 512), actor (128,)
    "mlp": {},
    "bronet": {
        "learner.network": "bronet",
        "learner.critic_hidden": (64,),
        "learner.actor_hidden": (64,),
        "learner.layer_norm": False,
    },
}
NETWORKS["simba"] = NETWORKS["bronet"] | {
    "learner.network": "simba",
    "learner.normalize_obs": True,
    "learner.lr": 1e-4,
    "learner.weight_decay": 1e-2,
    "learner.init_alpha": 0.01,
    "learner.target_entropy_per_dim": -0.5,
    "rule.lr": False,
}
NETWORKS["simba_v2"] = NETWORKS["simba"] | {
    "learner.network": "simba_v2",
    "learner.weight_decay": 0.0,
}
SMOKE_ALGO = {
    "sac": {},
    "bro": {},
    "pql": {
        "env.num_envs": 64,
        "train.learning_starts": 32 * 64,
        "train.utd": 8 / 64,
        "train.env_steps": 60_000,
        "sweep.utd": (8 / 64,),
        "learner.batch_size": 128,
    },
}


def published(agent: ModuleType, utd: float, **train: int) -> dict[str, Any]:
    """Overrides for one run as a paper ran it, at its own ratio."""
    names = [name for name in agent.get_config() if name != "name"]
    given = constants(agent, *names) | {"rule.batch_size": False, "rule.lr": False}
    given |= {"train.utd": utd, "sweep.utd": (utd,), "sweep.env_steps": ()}
    return given | {f"train.{name}": value for name, value in train.items()}


PUBLISHED = {
    "sac": {"env.num_envs": 1} | published(sac, 1.0, learning_starts=10_000, env_steps=1_000_000),
    "bro": {"env.num_envs": 1} | published(bro, 10.0, learning_starts=2_500, env_steps=1_000_000),
    "pql": WIDE_ALGO["pql"] | published(pql, 8 / 4096),
}
GRID = {
    "sweep.batch_size": (64, 128, 256, 512),
    "sweep.lr": (3e-4, 1e-3, 3e-3),
    "rule.batch_size": False,
    "rule.lr": False,
}
SIZES = {"sweep.width": (32, 64, 128, 256)}
