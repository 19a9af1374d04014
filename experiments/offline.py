"""Learn from data, offline or going on online: FQL, its rivals and its successors.

  python -m experiments.offline --agent=fql --task=cube-single-play-singletask-task2-v0
  python -m experiments.offline --agent=iql --task=... --alpha=1,3,10 --seeds=4  one program
  python -m experiments.offline --config=configs/offline.py:online --agent=fql --task=...
  python -m experiments.offline --agent=bfn --task=... --chunk=5 --small      action chunks
  python -m experiments.offline --agent=ifql --task=... --guidance=smc --particles=16
  python -m experiments.offline --agent=fql --task=... --smoke                seconds, shows it runs
`--guidance` lets the critic guide a flow or diffusion policy when it is evaluated; `--critic=RUN`
takes the one of another run. Data missing? `python -m experiments.make_data` makes OGBench's
without a network. The same command goes on where it was stopped. `--help` lists the flags.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from experiments import offline_data, offline_guidance, offline_guidance_check, offline_result
from rlx import agents
from rlx.infra import cli, distributed, errors, runtime
from rlx.train import campaign, offline_checks, offline_pack, offline_spec

DEFAULT = "configs/offline.py"
SHORT = {
    "agent": "learner.name",
    "task": "env.name",
    "data": "data.folder",
    "path": "data.path",
    "seed": "seed",
    "seeds": "num_seeds",
    "steps": "train.offline_steps",
    "online_steps": "train.online_steps",
    "alpha": "learner.alpha",
    "alpha_actor": "learner.alpha_actor",
    "alpha_critic": "learner.alpha_critic",
    "eta": "learner.eta",
    "expectile": "learner.expectile",
    "lr": "learner.lr",
    "guidance": "guidance.method",
    "particles": "guidance.particles",
    "children": "guidance.children",
    "temperature": "guidance.alpha",
    "critic": "guidance.critic",
}
SETTINGS = ("alpha", "alpha_actor", "alpha_critic", "eta", "expectile", "lr")  # one program
LISTS = ("seed", *SETTINGS)
OPTIONS = {"online": False, "small": False, "demo": False, "smoke": False}  # of the config
WINDOWS = {"chunk": 1, "n_step": 0}  # its other options


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code (0, or 42 and 130 after a saved stop)."""
    runtime.start()
    argv = sys.argv[1:] if argv is None else argv
    argv = [f"{flag}=true" if flag.removeprefix("--") in OPTIONS else flag for flag in argv]
    argv = cli.into_config(argv, DEFAULT, "agent", "task", "chunk", "n_step", *OPTIONS)
    config, workdir, options = cli.start(DEFAULT, SHORT, argv, lists=LISTS, extra=OPTIONS | WINDOWS)
    given = options.explicit
    name = "_".join(filter(None, (config.learner.name, config.tag)))
    root = workdir if "workdir" in given else Path("results/offline") / config.env.name / name
    if {"seed", "num_seeds"} <= given:
        raise errors.ConfigError("--seed and --seeds are both given: use one of them")
    if distributed.process_count() > 1:
        raise errors.ConfigError("offline runs are one process, with as many devices as it has")
    seeds = options.seed if "seed" in given else tuple(range(config.num_seeds))
    listed = {name: getattr(options, name) for name in SETTINGS}
    points = offline_checks.points(listed, given, config.learner)
    offline_checks.before_data(config, points)
    offline_guidance_check.refuse(config)
    dataset = offline_data.load(config)
    entry, plan = offline_checks.entry(config, dataset, agents.make, seeds, points, root)
    one, how = offline_spec.one_spec(dataset.train), offline_spec.windows(config)
    act = offline_guidance.make_act(config, offline_spec.learner_spec(one, how))
    if options.dry_run:
        print(json.dumps(offline_result.describe(entry, dataset), indent=2))
        return 0
    print(offline_result.introduction(entry, dataset), file=sys.stderr)

    def session(entry: campaign.Entry) -> offline_pack.Session:
        score = offline_data.score(config.env.name)
        runs = len(entry.runs)
        return offline_pack.Session(entry.config, dataset, agents.make, plan, runs, score, act)

    return campaign.run_all(
        [entry],
        campaign.Opener(lambda entry: "", session),
        offline_result.report,
        overwrite=options.overwrite,
        retry_failed=options.retry_failed,
    )


if __name__ == "__main__":
    sys.exit(errors.one_line(main))
