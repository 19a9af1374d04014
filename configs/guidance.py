"""Reward-guided sampling: every sampler against the truth, designs and actions at equal cost.

Follows 'Inference-Time Alignment in Diffusion Models with Reward-Guided Generation' (Uehara et al.
2025, arXiv 2501.09685) on two test beds whose tilted law is known exactly, on DNA of 24 bases with
proxy rewards, and on a two-dimensional bandit with a one-step student.

Options: `quick` (a minute or two: shows that all runs), `gpu` (a masked transformer of 6 layers,
width 256, trained here on DNA of 200 bases; sized for one GPU of 80 GB, not run yet).
Default: under 10 minutes on 2 free CPU cores, most of it compilation.
`python -m experiments.guidance`
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.common import parse_arg
from rlx import agents


def get_config(arg: str = "") -> ConfigDict:
    """Return the config; `arg` is a comma list of the options above."""
    option = parse_arg(arg, quick=False, gpu=False)
    config = ConfigDict(
        dict(
            seed=0,
            workdir=placeholder(str),  # default results/guidance
            parts=("beds", "designs", "actions"),
            beds=dict(
                names=("gaussian", "tokens"),
                alphas=(1.0, 0.5),  # of each bed, reward units
                budgets=(16, 64),  # best of so many; every method gets as many calls
                samples=6_400,  # of each method
                steps=50,  # of the Gaussian bed; that of tokens takes one per token
            ),
            designs=dict(
                length=24,  # bases
                budgets=(64, 256, 1024, 4096),  # reward calls per problem
                groups=32,  # independent problems of each method
                fraction=0.1,  # of a design that refinement noises again
                network="exact",  # conditionals of the prior, or a trained transformer
            ),
            denoiser=dict(  # of network = transformer
                width=256,
                depth=6,
                heads=8,
                dtype="float32",
                steps=2_000,  # of the pre-training
                learner=agents.module("rwr").get_config(),
            ),
            actions=dict(
                groups=1_000,  # actions of each method
                steps=50,  # of the flow
                particles=16,
                alpha=0.2,
                student_steps=1_500,
                student=agents.module("student").get_config(),
            ),
        )
    )
    config.denoiser.learner.alpha = float("inf")  # every sample counts alike
    config.actions.student.update(alpha=1.0, lr=1e-3)  # of alphas 0.3, 1, 3 and 10
    if option.gpu:
        config.update_from_flattened_dict(GPU)
    if option.quick:
        config.update_from_flattened_dict(QUICK)
    return config


GPU = {
    "parts": ("designs",),
    "designs.length": 200,
    "designs.groups": 8,  # best of 4096 takes 32 768 rows at once
    "designs.network": "transformer",
    "designs.budgets": (256, 1024, 4096),
    "denoiser.dtype": "bfloat16",
    "denoiser.steps": 20_000,
}
QUICK = {
    "beds.budgets": (4,),
    "beds.samples": 256,
    "beds.steps": 6,
    "designs.length": 12,
    "designs.budgets": (64,),
    "designs.groups": 4,
    "denoiser.width": 32,
    "denoiser.depth": 1,
    "denoiser.heads": 2,
    "denoiser.steps": 5,
    "denoiser.learner.batch_size": 16,
    "actions.groups": 64,
    "actions.steps": 8,
    "actions.particles": 4,
    "actions.student_steps": 50,
}
