"""Packaging of rlx: names, versions and what to install. Tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "([^"]+)"', (HERE / "rlx" / "__init__.py").read_text(), re.MULTILINE
)[1]

CORE = [
    "jax>=0.9,<0.13",  # 0.11 and later need Python >= 3.12
    "flax>=0.12",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.11.22",
    "chex",
    "ml-collections>=1.0",
    "mujoco>=3.17,<5",  # 4 announces the end of an XML attribute that some playground models use
    "mujoco-mjx>=3.17",
    "playground>=0.2",
    "brax>=0.14.2",  # environments only
    "tensorflow-datasets>=4.9.7",  # reads RLDS without tensorflow
    "wandb",
    "numpy",
    "scipy",
    "matplotlib",
    "absl-py",
    "rich",
]

OFFLINE = ["ogbench>=1.2", "gymnasium", "h5py", "minari"]
VLA = [
    "tokenizers",
    "safetensors",
    "array-record",
    "pillow",
    "pyarrow",
    "av",
    "msgpack",
    "websockets",
]
EXTRAS = {
    "cuda": ["jax[cuda13]"],
    "tpu": ["jax[tpu]"],
    "offline": OFFLINE,
    "vla": VLA,
    "web": ["playwright", "httpx", "miniwob"],
    "dev": [
        *OFFLINE,  # its loaders and environments are tested for real
        *VLA,  # so are the file formats and the server
        "pytest",
        "pytest-xdist",
        "ruff",
        "pyright",
        "nbclient",
        "nbformat",
        "ipykernel",
        "jsonschema",
        "pyyaml",
    ],
}

setup(
    name="rlx",
    version=VERSION,
    description="High-throughput reinforcement learning, robot learning and reasoning on JAX",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["rlx", "rlx.*"]),
    package_data={"rlx": ["py.typed"], "rlx.scaling": ["published/*"]},
    install_requires=CORE,
    extras_require=EXTRAS,
)
