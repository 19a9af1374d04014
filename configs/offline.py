"""Flow Q-learning and its rivals from data, perhaps going on in the environment.

Follows 'Flow Q-Learning' (Park, Li, Levine 2025, arXiv 2502.02538) on OGBench and D4RL; successors
with n-step returns, best-of-N and action chunks (Li et al. 2025, arXiv 2507.07969).

Options: `agent=NAME` and `task=NAME` (with the published settings of configs/tuned/offline.py),
`online` (the paper's 1M + 1M steps offline to online; RLPD: online alone, half of each batch from
the data), `chunk=5` (actions in chunks: QC-FQL with fql, QC with bfn), `n_step=5`, `small` (128 x 3
networks, 50 000 steps: minutes on 2 CPU cores for vectors), `demo` (the same on 100 episodes made
here), `smoke` (seconds: shows that all runs).
Default: FQL on cube-single, networks 512 x 4, a million steps: two days on a CPU core (6 per s).
`python -m experiments.offline --agent=fql --task=cube-single-play-singletask-task2-v0`
"""

from collections.abc import Iterator

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.common import Override, parse_arg, product
from configs.tuned.offline import CHUNKED, settings
from rlx import agents

TASK = "cube-single-play-singletask-task2-v0"


def get_config(arg: str = "") -> ConfigDict:
    """Return the config; `arg` is a comma list of the options above."""
    flags = {"online": False, "small": False, "demo": False, "smoke": False}
    option = parse_arg(arg, **flags, agent="fql", task=TASK, chunk=1, n_step=0)
    if option.agent not in agents.OFFLINE:
        raise ValueError(agents.unknown(option.agent, agents.OFFLINE))
    config = ConfigDict(
        dict(
            seed=0,
            num_seeds=1,  # seeds 0, 1, ... as one program
            tag="",  # ends the name of the default workdir: online, small, chunk5 ...
            workdir=placeholder(str),  # default results/offline/TASK/AGENT[_TAG]
            resume_from=placeholder(str),  # workdir of a run to go on from, all of its state
            init_from=placeholder(str),  # workdir of a run whose parameters to begin with
            env=dict(name=option.task),
            learner=agents.module(option.agent).get_config(),
            data=dict(
                folder=placeholder(str),  # of OGBench's files; default ~/.ogbench/data
                path=placeholder(str),  # one file, or a D4RL data set's
                generate=0,  # where there is no file, make so many episodes in a folder apart
                download=False,  # fetch OGBench's file if it is missing
                sparse=False,  # rewards -1 until the task is done, then 0
                n_step=1,  # rewards summed before the bootstrap
                chunk=option.chunk,  # actions chosen at once and taken one after another
                frame_stack=1,  # images per observation
                crop=0.0,  # probability that a batch of images is randomly cropped
            ),
            train=dict(
                offline_steps=1_000_000,  # gradient steps from data alone
                online_steps=0,  # then steps of the environment, each with its update
                warmup=0,  # of those, how many at first without updates
                utd=1,  # gradient steps per environment step
                balanced_sampling=False,  # online: half of each batch from the data
                capacity=placeholder(
                    int
                ),  # rows of what a run collects; default 2M, or what it needs
                log_every=5_000,  # steps
                eval_every=100_000,
                chunk_seconds=10.0,  # length of one dispatch; changes no result
            ),
            eval=dict(
                episodes=50,  # the same ones at every evaluation; 0 = no environment is needed
                seed=0,  # of the first episode's reset, the others follow
                lanes=placeholder(int),  # environments side by side; default 8 per worker
                workers=placeholder(int),  # processes that step them; default one per core
            ),
            guidance=dict(  # of flow and diffusion policies by a critic, in evaluation alone
                method="",  # bon, soft_bon, smc, svdd, nested, tds, cg ...; "" = as they act
                particles=16,  # actions that are made side by side
                children=4,  # candidates per particle and step (svdd, nested)
                alpha=0.3,  # temperature; the smaller the greedier
                alpha_mode="q_std",  # alpha counts in standard deviations of Q, or absolute
                eta=1.0,  # share of the noise; 0 would make all particles' steps the same
                critic=placeholder(str),  # workdir of the run whose critic guides; default its own
            ),
            checkpoint=dict(
                keep=2,
                keep_every=placeholder(int),
                every_seconds=600.0,
                every_steps=placeholder(int),
            ),
            log=dict(wandb="offline"),  # off, offline or online
            mesh=dict(run=0, data=-1, fsdp=1, shards=placeholder(int)),  # see scaling_laws
        )
    )
    small = SMALL | (DEMO if option.demo else {}) | (SMOKE if option.smoke else {})
    if not option.online and not option.task.startswith("walk-"):
        small = {field: value for field, value in small.items() if field not in ONLINE_LENGTHS}
    layers = {
        "pixels": PIXELS if option.task.startswith("visual-") else {},
        "tuned": settings(option.agent, option.task, online=option.online),
        "chunk": CHUNKED.get(option.agent, {}) if option.chunk > 1 else {},
        "online": ONLINE if option.online else {},
        "chunk_online": CHUNKED_ONLINE if option.online and option.chunk > 1 else {},
        "small": small if option.small or option.demo or option.smoke else {},
        "online_alone": ONLINE_ALONE.get(option.agent, {}) if option.online else {},
    }
    for layer in layers.values():
        known = config.to_dict()["learner"]
        fitting = {
            field: value
            for field, value in layer.items()
            if not field.startswith("learner.") or field.removeprefix("learner.") in known
        }
        config.update_from_flattened_dict(fitting)
    if option.n_step or option.chunk > 1:  # a chunk is several steps already
        config.data.n_step = option.n_step or 1
    if option.task.startswith("walk-"):
        config.train.offline_steps = 0
    named = [name for name in flags if getattr(option, name)]
    named += [f"chunk{option.chunk}"] if option.chunk > 1 else []
    named += [f"n{option.n_step}"] if option.n_step > 1 else []
    config.tag = "_".join(named)
    return config


MAX_PROCESSES = 1  # evaluation in simulators is one process's
PACKED = {"seed": "seed"}  # field: the flag that runs several at once
FLAGS = {"seeds": "seed", "config.num_seeds": "seed"}  # other flags that set a field of the sweep


def get_sweep(arg: str = "") -> Iterator[Override]:
    """Yield the runs of the paper's tables: eight seeds from vectors, four from pixels."""
    pixels = get_config(arg).env.name.startswith("visual-")
    return product({"seed": range(4 if pixels else 8)})


PIXELS = {
    "learner.encoder": "impala_small",
    "data.frame_stack": 3,
    "data.crop": 0.5,
    "train.offline_steps": 500_000,
}
ONLINE = {"train.offline_steps": 1_000_000, "train.online_steps": 1_000_000}
CHUNKED_ONLINE = {"train.warmup": 5_000}  # Li et al. 2025 collect before they go on
ONLINE_ALONE = {"rlpd": {"train.offline_steps": 0, "train.balanced_sampling": True}}  # at any size
ONLINE_LENGTHS = ("train.online_steps", "train.warmup")  # where there is no such phase: 0
_NET = (128, 128, 128)
SMALL = {
    "learner.lr": 1e-3,
    "learner.tau": 0.01,
    "learner.critic_hidden": _NET,
    "learner.actor_hidden": _NET,
    "train.offline_steps": 50_000,
    "train.online_steps": 50_000,
    "train.log_every": 1_000,
    "train.eval_every": 10_000,
    "log.wandb": "off",
}
DEMO = {
    "data.generate": 100,
    "train.offline_steps": 10_000,
    "train.online_steps": 3_000,
    "train.warmup": 0,
    "train.eval_every": 2_000,
    "eval.episodes": 20,
}
SMOKE = {
    "data.generate": 3,
    "learner.critic_hidden": (32, 32),
    "learner.actor_hidden": (32, 32),
    "learner.batch_size": 64,
    "train.offline_steps": 300,
    "train.online_steps": 100,
    "train.warmup": 50,
    "train.log_every": 100,
    "train.eval_every": 300,
    "eval.episodes": 2,
    "eval.workers": 0,
}
