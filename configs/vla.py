"""Vision-language-action models on demonstrations: actions as tokens, by a flow, or both.

Follows pi0-FAST (Pertsch et al. 2025, arXiv 2501.09747) and its successors; data are made here (an
arm that reaches for the disc which a sentence names), RLDS or LeRobot.

Options: `task=reach|push`, `hz=50` (control frequency: numbers per second of action), `tokenizer=`
(fast, bins, dct), `head=tokens|flow|both`, `size=micro|tiny|small|base` (width 64 to 2048),
`images` (pictures of 32 x 32 instead of the goal's coordinates), `lora` (frozen decoder, low-rank
updates), `demo` (minutes on 2 CPU cores), `smoke` (seconds: shows that all runs).
Default: reach at 50 Hz, FAST, size tiny, 1 500 steps: half an hour on 2 CPU cores.
`python -m experiments.vla --tokenizer=fast,bins --hz=50`
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.common import parse_arg
from rlx.agents import vla


def get_config(arg: str = "") -> ConfigDict:
    """Return the config; `arg` is a comma list of the options above."""
    flags = {"images": False, "lora": False, "demo": False, "smoke": False}
    option = parse_arg(arg, **flags, task="reach", hz=50, tokenizer="fast", head="tokens", size="")
    size = option.size or ("micro" if option.demo or option.smoke else "tiny")
    if size not in SIZES:
        raise ValueError(f"config option 'size' is {', '.join(SIZES)}, got '{size}'")
    config = ConfigDict(
        dict(
            seed=0,
            num_seeds=1,  # seeds 0, 1, ..., one after the other
            tag="",  # ends the name of the default workdir: images, demo ...
            workdir=placeholder(str),  # default results/vla/TASK or the data's folder
            resume_from=placeholder(str),  # workdir of a run to go on from, all of its state
            init_from=placeholder(str),  # workdir of a run whose parameters to begin with
            env=dict(name=option.task),  # reach or push; ignored with data.path
            learner=vla.get_config(),
            data=dict(
                path=placeholder(str),  # RLDS or LeRobot instead of made data; a mixture: A,B
                format="lerobot",  # lerobot, or a name of rlx/data/oxe.py; one, or one per folder
                weights=(),  # of a mixture, times samples; default: the adapters', 1 for LeRobot
                hz=option.hz,  # control steps per second; a chunk is one second
                episodes=20_000,  # made for training
                images=option.images,
                horizon=placeholder(int),  # steps of a chunk; default hz
                delta=(),  # recorded data: 1 where an action becomes a difference to the state
                zero_pad=(),  # LeRobot: 1 where the last action of an episode is not held
                image_size=224,  # recorded images are fitted into such a square
                tokenizer=option.tokenizer,  # fast, bins, dct
                scale=placeholder(float),  # of FAST and DCT, as the doctor recommends; default 10
                vocab_size=1024,  # of FAST, alphabet included
                merges=placeholder(int),  # tokens beyond the alphabet, in place of vocab_size
                text=placeholder(str),  # a tokenizer.json for the text; default: bytes
                max_len=placeholder(int),  # tokens of a sequence; default: the longest's
                prompt_room=16,  # tokens by which a prompt may be longer than in training
                resident=True,  # all rows on device; False: a loader hands batches over
                workers=2,  # threads of the loader
                cache_tokens=False,  # the loader makes all token rows once, before training
            ),
            weights=dict(
                path=placeholder(str),  # pretrained ones to begin with
                rows=placeholder(str),  # .npy: the row of their token table for each of our ids
                layout="paligemma",  # of them: paligemma (npz), huggingface or openpi
                allow_missing="",  # pattern of our names that they may lack, such as expert
                allow_unexpected="",  # of theirs that we do not have
            ),
            train=dict(
                steps=1_500,  # gradient steps; learner.decay_steps too where it is not given
                tokens=placeholder(int),  # tokens to read, in place of steps
                log_every=50,
                eval_every=500,
                chunk_seconds=10.0,  # length of one dispatch; changes no result
            ),
            eval=dict(
                episodes=256,  # held-out episodes, or samples of recorded data
                mujoco=False,  # play episodes in MuJoCo too
            ),
            checkpoint=dict(
                keep=2,
                keep_every=placeholder(int),
                every_seconds=600.0,
                every_steps=placeholder(int),
            ),
            log=dict(wandb="offline"),  # off, offline or online
            mesh=dict(
                data=1,  # devices over rows; -1 = the rest
                fsdp=1,  # devices over rows and large parameters
                shards=8,  # logical shards of a batch: part of the experiment
                min_bytes=4 << 20,  # smaller parameters are whole on every device
            ),
        )
    )
    layers = {
        "flow": {"train.steps": 3_000} if option.head == "flow" else {},
        "size": SIZES[size],
        "demo": DEMO if option.demo else {},
        "lora": LORA if option.lora else {},
        "smoke": SMOKE if option.smoke else {},
    }
    for layer in layers.values():
        config.update_from_flattened_dict(layer)
    config.learner.head = option.head
    named = [name for name in flags if getattr(option, name)]
    config.tag = "_".join([size, *named])
    return config


def network(decoder: str, vit: str) -> dict:
    """Networks by name."""
    return {
        "learner.decoder": decoder,
        "learner.expert_decoder": f"{decoder}_expert",
        "learner.vit": vit,
    }


SIZES = {
    "micro": network("micro", "tiny"),
    "tiny": network("tiny", "tiny"),
    "small": network("small", "tiny")
    | {
        "learner.lr": 3e-4,
        "learner.ema": 0.999,
        "learner.dtype": "bfloat16",
        "train.steps": 20_000,
    },
    "base": {  # PaliGemma's shape, with the published optimiser; see `weights`
        "learner.decoder": "gemma_2b",
        "learner.expert_decoder": "gemma_300m",
        "learner.vit": "so400m",
        "learner.lr": 5e-5,
        "learner.warmup_steps": 1000,
        "learner.ema": 0.999,
        "learner.dtype": "bfloat16",
        "learner.remat": True,
        "learner.batch_size": 32,
        "data.resident": False,
        "mesh.data": 1,
        "mesh.fsdp": -1,
        "train.steps": 40_000,
        "train.eval_every": 5_000,
    },
}
LORA = {
    "learner.lora_rank": 16,
    "learner.freeze": "llm",
    "learner.learn": "lora",
    "learner.frozen_dtype": "bfloat16",
    "learner.ema": 0.0,
    "learner.lr": 2.5e-4,
}
DEMO = {
    "data.merges": 64,  # 1024 tokens over-merge: near-unique code words teach little
    "learner.batch_size": 32,
    "learner.lr": 4e-3,  # tried with FAST alone: 1e-3 learns less in so few steps
    "learner.state_input": "token",  # digits as text take a small model much longer to read
    "learner.schedule": "cosine",
    "learner.lr_end": 0.01,
    "learner.warmup_steps": 50,
    "learner.action_vocab_only": True,
    "train.tokens": 5_000_000,  # equal work: a step of bins reads three times FAST's tokens
    "train.eval_every": 400,
    "log.wandb": "off",
}
SMOKE = {
    "learner.batch_size": 8,
    "data.episodes": 64,
    "data.hz": 5,
    "train.steps": 6,
    "train.log_every": 3,
    "train.eval_every": 6,
    "eval.episodes": 8,
    "log.wandb": "off",
}
