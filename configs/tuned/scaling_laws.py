"""Settings per algorithm and environment of configs/scaling_laws.py, as flat overrides."""

SMALL = {
    "learner.critic_hidden": (64, 64),
    "learner.actor_hidden": (64, 64),
    "learner.batch_size": 128,
}
# The optimal return is near -145, a random policy's near -1200.
PENDULUM = {
    "learner.lr": 1e-3,
    "learner.discount": 0.98,
    "learner.tau": 0.01,
    "learner.reward_scale": 0.1,
    "rule.anchor_utd": 0.5,
    "sweep.utd": (0.25, 0.5, 1.0, 2.0, 4.0),
    "sweep.env_steps": (),
    "train.env_steps": 8_000,
    "train.utd": 0.5,
    "fit.return_range": (-1600.0, -100.0),
    "fit.thresholds": (300.0, 400.0, 500.0, 600.0, 700.0, 800.0, 850.0, 900.0),
}
PENDULUM_PQL = {
    "learner.reward_scale": 0.1,
    "train.env_steps": 600_000,
    "fit.return_range": (-1600.0, -100.0),
}
CARTPOLE = {"env.action_repeat": 2, "learner.lr": 1e-3}

QUICK = {"env.action_repeat": 4, "learner.lr": 1e-3, "train.learning_starts": 504}
REACHER = {"fit.return_range": (-300.0, 0.0)}
# The variant of the scaling studies, without the optimistic actor, at a size that a CPU trains.
SMALL_BRO = {
    "learner.critic_hidden": (64,),
    "learner.actor_hidden": (64,),
    "learner.quantiles": 16,
    "learner.optimistic": False,
    "learner.batch_size": 128,
}

TUNED = {
    "sac": {
        # MJX. A prototype reached 700 within 15 000 transitions at UTD 8 with these.
        "CartpoleSwingup": SMALL | CARTPOLE | {"learner.layer_norm": True},
        "CartpoleBalance": SMALL | QUICK | {"learner.layer_norm": True},
        "brax/reacher": SMALL | QUICK | REACHER | {"learner.layer_norm": True},
        "pendulum": SMALL | PENDULUM,
    },
    "bro": {
        "CartpoleSwingup": SMALL_BRO | CARTPOLE,
        "CartpoleBalance": SMALL_BRO | QUICK,
        "brax/reacher": SMALL_BRO | QUICK | REACHER,
        "pendulum": PENDULUM,
    },
    "pql": {
        "pendulum": PENDULUM_PQL,
        # Two seeds ended at 975 and 993 of 1000.
        "CartpoleBalance": {
            "env.action_repeat": 4,
            "learner.reward_scale": 0.1,
            "train.env_steps": 1_500_000,
        },
        # At 793 and 862.
        "CartpoleSwingup": {
            "env.action_repeat": 2,
            "learner.reward_scale": 0.1,
            "train.env_steps": 4_000_000,
        },
        "brax/inverted_pendulum": {"learner.reward_scale": 0.1},
    },
}

# Lengths of the option `study`, transitions for each of its six UTDs, and the levels J of its fits.
SWINGUP_LEVELS = {"fit.thresholds": (250.0, 300.0, 350.0, 400.0, 450.0, 500.0)}
BALANCE_STUDY = {
    "sweep.env_steps": (12_000, 9_000, 7_000, 5_000, 4_000, 3_000),
    "fit.thresholds": (400.0, 500.0, 600.0, 700.0, 800.0, 900.0),
}
REACHER_STUDY = {
    "sweep.env_steps": (16_000, 14_000, 11_000, 8_000, 6_000, 5_000),
    "fit.thresholds": (450.0, 500.0, 550.0, 600.0, 650.0),  # returns of -165 ... -105
}
STUDY_ENV = {
    "sac": {
        "CartpoleSwingup": SWINGUP_LEVELS
        | {"sweep.env_steps": (50_000, 40_000, 28_000, 20_000, 14_000, 11_000)},
        "CartpoleBalance": BALANCE_STUDY,
        "brax/reacher": REACHER_STUDY,
    },
    "bro": {
        "CartpoleSwingup": SWINGUP_LEVELS
        | {"sweep.env_steps": (30_000, 24_000, 17_000, 12_000, 9_000, 7_000)},
        "CartpoleBalance": BALANCE_STUDY,
        "brax/reacher": REACHER_STUDY,
    },
    "pql": {},
}
