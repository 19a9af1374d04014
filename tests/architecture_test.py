"""The shape of the house: who may import whom, what an import may do, how long a file may be.

The rules are the never-arrows of the architecture. They are checked on the syntax tree, so no
room has to be importable; rooms that do not exist yet are skipped; and the checker itself is
tested on planted violations.
"""

from __future__ import annotations

import ast
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOUSES = ("rlx", "experiments", "configs", "tpu", "notebooks", "tests")

# Rooms of rlx that a room must not import (rules 1, 2, 3 and 7). "types" and "names" are
# rooms of one file, below everything.
NEVER = {
    "agents": {"envs", "data", "train", "infra"},
    "envs": {"agents", "train"},
    "data": {"agents", "train"},
    "train": {"agents"},
    "serve": {"envs", "data", "train"},
}
# Rooms that may import nothing of rlx but themselves and these.
ONLY = {
    "types": set(),
    "names": set(),
    "ops": {"types", "names"},
    "nn": {"types", "names", "ops"},
    "infra": {"types", "names", "ops"},
    "tokenizers": {"ops"},
    "guidance": {"types", "names", "ops"},
    "scaling": set(),
}
# Tokenizers are NumPy when they are imported: of ops they use what is NumPy as well, and the Rust
# package only where it is called.
TOKENIZERS_OPS = ("rlx.ops.action_tokens", "rlx.ops.dct")
TOKENIZERS_TOPS = ("rlx", "numpy", *sys.stdlib_module_names)
TOKENIZERS_LATE = ("tokenizers", "huggingface_hub")
# The one command of tokenizers that reads data sets, and what it may import where it does.
TOKENIZERS_COMMAND = "rlx/tokenizers/doctor/__main__.py", "rlx.data.recorded"
# Rule 6: heavy packages, the one file that may import each, and only inside functions.
ONE_FILE = {
    "mujoco": "rlx/envs/mjx.py",
    "mujoco_playground": "rlx/envs/mjx.py",
    "warp": "rlx/envs/mjx.py",
    "brax": "rlx/envs/brax.py",
    "gymnasium": "rlx/envs/host.py",
    "tensorflow_datasets": "rlx/data/rlds.py",
    "orbax": "rlx/infra/checkpoint.py",
}
# Rule 3: packages of the command line and of logging.
INFRA_ONLY = ("absl.flags", "wandb", "tqdm")
# Rule 8: what no module does while it is imported.
IMPORT_TIME = (
    "jax.devices",
    "jax.local_devices",
    "jax.device_count",
    "jax.local_device_count",
    "jax.default_backend",
    "jax.process_index",
    "jax.process_count",
    "jax.random",
    "jax.numpy",
    "os.environ",
    "os.getenv",
    "open",
    "io.open",
    "numpy.load",
    "numpy.loadtxt",
    "json.load",
)
FILE_METHODS = (
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "open",
    "iterdir",
    "glob",
    "rglob",
)

# Longest files, in lines; the first pattern that matches counts.
BUDGET = (
    ("rlx/types.py", 180),
    ("rlx/train/driver.py", 200),
    ("rlx/train/*.py", 250),
    ("rlx/infra/checkpoint.py", 170),
    ("rlx/infra/logging.py", 150),
    ("rlx/infra/sharding.py", 150),
    ("rlx/infra/config.py", 200),
    ("experiments/*.py", 100),
    ("rlx/**/*.py", 300),
)


class Import(NamedTuple):
    target: str  # dotted, e.g. "rlx.agents.sac.make" or "absl.flags"
    inside_function: bool
    line: int


def imports(tree: ast.AST, package: str = "") -> Iterator[Import]:
    """All imports of a module: statements, `importlib.import_module("x")` and `__import__("x")`."""
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and dotted(branch.test).endswith("TYPE_CHECKING")
        for statement in branch.body
        for node in ast.walk(statement)
    }

    def visit(node: ast.AST, inside: bool) -> Iterator[Import]:
        late = inside or id(node) in typing_only
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, late, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                yield Import(
                    module if alias.name == "*" else f"{module}.{alias.name}", late, node.lineno
                )
        elif isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            if (
                node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
            ):
                yield Import(node.args[0].value, inside, node.lineno)
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside or function)

    yield from visit(tree, False)


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a Name or Attribute chain, "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def starts(target: str, *packages: str) -> bool:
    return any(target == p or target.startswith(p + ".") for p in packages)


def import_time_nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs when the module is imported: no function bodies, no `__main__` branch."""

    def visit(node: ast.AST) -> Iterator[ast.AST]:
        if isinstance(node, ast.If) and "__main__" in ast.dump(node.test):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            early = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            for child in [*early, *getattr(node, "decorator_list", [])]:
                yield from visit(child)
            return
        if isinstance(node, ast.AnnAssign):  # the annotation is not evaluated
            for child in filter(None, (node.target, node.value)):
                yield from visit(child)
            return
        yield node
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(tree)


def import_time_reads(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Rule 8: (line, what) for devices, arrays, environment and files touched at import time."""
    alias = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            alias |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0]
                for a in node.names
            }
        elif isinstance(node, ast.ImportFrom) and not node.level:
            alias |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    writes = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            writes.add(id(node.value))
        elif isinstance(node, ast.Call) and dotted(node.func).endswith("environ.setdefault"):
            writes |= {id(child) for child in ast.walk(node.func)}
    for node in import_time_nodes(tree):
        if id(node) in writes:
            continue
        read = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
        for expression in [node.func] if isinstance(node, ast.Call) else [node] if read else []:
            head, _, rest = dotted(expression).partition(".")
            name = ".".join(filter(None, [alias.get(head, head), rest]))
            called = isinstance(node, ast.Call)
            if (called and starts(name, *IMPORT_TIME)) or (not called and name == "os.environ"):
                yield node.lineno, name
            elif (
                called and isinstance(expression, ast.Attribute) and expression.attr in FILE_METHODS
            ):
                yield node.lineno, f"(...).{expression.attr}"


def violations(path: str, source: str) -> list[str]:
    """Every rule that the file `path` (relative to the repository) breaks, as readable lines."""
    parts = PurePosixPath(path).with_suffix("").parts
    house, room = parts[0], parts[1] if len(parts) > 1 else ""
    tree = ast.parse(source)
    found = list(imports(tree, package=".".join(parts[:-1])))
    out = []

    def refuse(line: int, text: str) -> None:
        out.append(f"{path}:{line}: {text}")

    for target, inside_function, line in found:
        top, *rest = target.split(".")
        target_room = rest[0] if top == "rlx" and rest else ""
        own = (*parts[:-1],) if parts[-1] == "__init__" else parts
        if top == "tensorflow":
            refuse(line, "tensorflow is imported nowhere (rule 9)")
        if house == "rlx":
            if target_room in NEVER.get(room, ()):
                refuse(line, f"{room} never imports {target_room} ({target})")
            reads = path == TOKENIZERS_COMMAND[0] and starts(target, TOKENIZERS_COMMAND[1])
            if (
                top == "rlx"
                and room in ONLY
                and not (reads and inside_function)
                and target_room not in ONLY[room] | {room, "__version__"}
            ):
                refuse(
                    line,
                    f"{room} imports nothing of rlx but {ONLY[room] or 'itself'} ({target})",
                )
            if room == "names" and top not in sys.stdlib_module_names:
                refuse(line, f"names is pure Python, below everything ({target})")
            if room == "tokenizers":
                late = inside_function and top in TOKENIZERS_LATE
                if top not in TOKENIZERS_TOPS and not late:
                    refuse(line, f"tokenizers are numpy only ({target})")
                if target_room == "ops" and not starts(target, *TOKENIZERS_OPS):
                    refuse(line, f"tokenizers use of ops {', '.join(TOKENIZERS_OPS)} ({target})")
            if room != "infra" and starts(target, *INFRA_ONLY):
                refuse(line, f"only infra imports {target} (rule 3)")
            if top in HOUSES[1:]:
                refuse(line, f"rlx never imports {top} (rule 4)")
            another = (
                target_room == "agents" and len(rest) > 1 and not starts(target, ".".join(own))
            )
            if room == "agents" and parts[-1] != "__init__" and another:
                refuse(line, f"an agent never imports another agent ({target}, rule 5)")
            if top in ONE_FILE and path != ONE_FILE[top]:
                refuse(line, f"only {ONE_FILE[top]} imports {top} (rule 6)")
            elif top in ONE_FILE and not inside_function:
                refuse(line, f"{top} is imported inside functions only (rule 6)")
        elif house == "configs":
            agent = starts(target, "rlx.agents")
            if path == "configs/common.py":
                allowed = top in sys.stdlib_module_names or (top == "scipy" and inside_function)
            else:
                allowed = agent or top in {"configs", "ml_collections", *sys.stdlib_module_names}
            if not allowed:
                refuse(
                    line,
                    f"configs import ml_collections and get_config only ({target}, rule 7)",
                )
            elif agent and len(rest) > 2 and rest[-1] != "get_config":
                refuse(line, f"of an agent a config imports get_config only ({target}, rule 7)")
        elif house == "tpu":
            if top not in {"tpu", "configs", *sys.stdlib_module_names}:
                refuse(line, f"tpu imports configs only ({target}, rule 7)")
        elif house == "notebooks" and top == "rlx" and target_room not in ("scaling", ""):
            refuse(
                line,
                f"notebooks never train: of rlx they import rlx.scaling only ({target}, rule 10)",
            )
    if house == "configs":
        agents = {
            t.split(".")[-1] for t, _, _ in found if starts(t, "rlx.agents") and t.count(".") == 2
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and dotted(node.value) in agents
                and node.attr != "get_config"
            ):
                refuse(
                    node.lineno,
                    f"of an agent a config uses get_config only ({dotted(node)}, rule 7)",
                )
    if path == "tpu/launch.py" and "JAX_PLATFORMS" not in source:
        refuse(1, "the launcher sets JAX_PLATFORMS=cpu before anything else (rule 7)")
    if house in ("rlx", "experiments", "configs", "tpu"):
        for line, what in import_time_reads(tree):
            refuse(line, f"{what} at import time (rule 8)")
    return out


def notebook_source(text: str) -> str:
    """The code cells of a notebook as one module, without shell and magic lines."""
    cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    lines = [line for cell in cells for line in "".join(cell).split("\n")]
    return "\n".join("" if line.lstrip().startswith(("%", "!", "?")) else line for line in lines)


def files() -> list[str]:
    found = [
        p
        for house in HOUSES
        for suffix in ("*.py", "*.ipynb")
        for p in (ROOT / house).rglob(suffix)
    ]
    return sorted(
        p.relative_to(ROOT).as_posix() for p in found if ".ipynb_checkpoints" not in p.parts
    )


def budget(path: str) -> int | None:
    return next((lines for pattern, lines in BUDGET if matches(path, pattern)), None)


def matches(path: str, pattern: str) -> bool:
    if "**" in pattern:
        return path.startswith(pattern.split("**")[0])
    return PurePosixPath(path).match(pattern) and path.count("/") == pattern.count("/")


# The house as it stands.


@pytest.mark.parametrize("path", files())
def test_no_forbidden_arrow(path):
    text = (ROOT / path).read_text()
    source = notebook_source(text) if path.endswith(".ipynb") else text
    assert violations(path, source) == []


def test_files_stay_within_their_line_budget():
    long = {}
    for path in files():
        lines = len((ROOT / path).read_text().splitlines())
        allowed = budget(path)
        if path.endswith(".py") and allowed is not None and lines > allowed:
            long[path] = f"{lines} lines, budget {allowed}"
    assert long == {}


HEAVY = (
    "brax",
    "mujoco",
    "mujoco_playground",
    "wandb",
    "orbax",
    "tensorflow",
    "tensorflow_datasets",
    "warp",
)


def test_no_two_files_of_tests_share_a_name():
    """Pytest imports a test file by its bare name: of two it would collect only the first."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    del names["conftest.py"]
    assert [name for name, count in names.items() if count > 1] == []


def test_importing_all_of_rlx_loads_nothing_heavy_and_starts_no_backend(
    run_python, record_property
):
    """In a fresh process; the time is reported and not asserted, since machines are noisy."""
    code = f"""
import importlib, json, pkgutil, sys, time
start = time.perf_counter()
import rlx
first = time.perf_counter() - start
loaded = [m for m in ("jax", "flax", "numpy") if m in sys.modules]
names = [m.name for m in pkgutil.walk_packages(rlx.__path__, "rlx.")]
names = [name for name in names if not name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
from jax._src import xla_bridge
print(json.dumps(dict(
    first=first, all=time.perf_counter() - start, modules=len(names), loaded=loaded,
    heavy=[m for m in {HEAVY!r} if m in sys.modules], backends=list(xla_bridge._backends),
)))
"""
    done = json.loads(run_python(code).stdout.splitlines()[-1])
    record_property("import_rlx_s", done["first"])
    record_property("import_all_s", done["all"])
    print(f"import rlx {done['first']:.2f} s, all {done['modules']} modules {done['all']:.2f} s")
    assert done["loaded"] == []  # `import rlx` itself is the version only
    assert done["heavy"] == []
    assert done["backends"] == []


# The checker itself: each planted line must be found, each honest one must pass.

PLANTED = [
    ("rlx/agents/sac.py", "from rlx.envs import classic", "agents never imports envs"),
    ("rlx/agents/sac.py", "from rlx import data", "agents never imports data"),
    ("rlx/agents/sac.py", "import rlx.train.online as o", "agents never imports train"),
    (
        "rlx/agents/sac.py",
        "def f():\n    from rlx.infra.random import key_for",
        "agents never imports infra",
    ),
    ("rlx/agents/rl/sac.py", "from ...infra import random", "agents never imports infra"),
    ("rlx/agents/sac.py", "from rlx.agents.iql import loss", "another agent"),
    ("rlx/agents/sac.py", "from rlx.agents import iql", "another agent"),
    ("rlx/agents/sac.py", "from . import iql", "another agent"),
    ("rlx/envs/core.py", "import rlx.agents", "envs never imports agents"),
    ("rlx/envs/core.py", "from rlx.train import online", "envs never imports train"),
    ("rlx/data/buffer.py", "from rlx.agents.sac import make", "data never imports agents"),
    ("rlx/data/buffer.py", "from ..train import online", "data never imports train"),
    ("rlx/train/online.py", "from rlx.agents import sac", "train never imports agents"),
    ("rlx/ops/td.py", "from rlx.infra import random", "ops imports nothing of rlx but"),
    (
        "rlx/nn/mlp.py",
        "import importlib\nimportlib.import_module('rlx.infra.config')",
        "nn imports nothing",
    ),
    ("rlx/serve/server.py", "from rlx.data import chunks", "serve never imports data"),
    ("rlx/serve/server.py", "def f():\n    import rlx.envs.mjx", "serve never imports envs"),
    ("rlx/types.py", "from rlx.ops import td", "types imports nothing of rlx"),
    ("rlx/names.py", "from rlx.types import Env", "names imports nothing of rlx"),
    ("rlx/names.py", "import numpy", "names is pure Python"),
    ("rlx/scaling/rules.py", "from rlx.types import Env", "scaling imports nothing of rlx"),
    ("rlx/guidance/smc.py", "from rlx.agents import sac", "guidance imports nothing of rlx but"),
    ("rlx/guidance/smc.py", "from rlx.nn.mlp import MLP", "guidance imports nothing of rlx but"),
    ("rlx/tokenizers/fast.py", "import jax", "numpy only"),
    ("rlx/tokenizers/fast.py", "def f():\n    import scipy.fft", "numpy only"),
    ("rlx/tokenizers/bpe.py", "from tokenizers import Tokenizer", "numpy only"),
    ("rlx/tokenizers/fast.py", "from rlx.ops.shards import rows", "tokenizers use of ops"),
    ("rlx/tokenizers/fast.py", "from rlx.data import rlds", "tokenizers imports nothing of rlx"),
    (TOKENIZERS_COMMAND[0], "from rlx.data import recorded", "tokenizers imports nothing of rlx"),
    (
        "rlx/tokenizers/fast.py",
        "def f():\n    from rlx.data.recorded import open_set",
        "tokenizers imports nothing of rlx",
    ),
    ("rlx/train/driver.py", "from absl import flags", "only infra imports absl.flags"),
    ("rlx/train/driver.py", "def f():\n    import wandb", "only infra imports wandb"),
    ("rlx/data/loader.py", "from tqdm.auto import tqdm", "only infra imports tqdm"),
    ("rlx/train/driver.py", "from experiments import smoke", "rlx never imports experiments"),
    ("rlx/infra/config.py", "import configs.common", "rlx never imports configs"),
    ("rlx/ops/td.py", "import tests.conftest", "rlx never imports tests"),
    ("rlx/envs/core.py", "def f():\n    import mujoco", "only rlx/envs/mjx.py imports mujoco"),
    ("rlx/envs/mjx.py", "from mujoco import mjx", "inside functions only"),
    ("rlx/envs/brax.py", "class A:\n    import brax", "inside functions only"),
    (
        "rlx/train/driver.py",
        "def f():\n    import orbax.checkpoint",
        "only rlx/infra/checkpoint.py",
    ),
    ("rlx/data/rlds.py", "import tensorflow_datasets", "inside functions only"),
    ("rlx/data/rlds.py", "def f():\n    import tensorflow as tf", "imported nowhere"),
    ("tests/data/rlds_test.py", "import tensorflow", "imported nowhere"),
    ("configs/vla.py", "import jax", "configs import ml_collections"),
    ("configs/vla.py", "from rlx.train import online", "configs import ml_collections"),
    ("configs/vla.py", "from rlx.agents.vla import make", "get_config only"),
    ("configs/vla.py", "from rlx.agents import vla\nx = vla.HP", "get_config only"),
    ("configs/common.py", "import ml_collections", "configs import ml_collections"),
    ("tpu/plan.py", "from rlx.infra import config", "tpu imports configs only"),
    ("tpu/launch.py", "import configs.common", "sets JAX_PLATFORMS"),
    ("notebooks/pareto.ipynb", "from rlx.train import online", "never train"),
    ("notebooks/pareto.ipynb", "import rlx.agents", "never train"),
    ("rlx/ops/td.py", "import jax\nN = len(jax.devices())", "jax.devices at import time"),
    (
        "rlx/ops/td.py",
        "import jax.numpy as jnp\nZERO = jnp.zeros(3)",
        "jax.numpy.zeros at import time",
    ),
    (
        "rlx/ops/td.py",
        "from jax import numpy as np\ndef f(x=np.zeros(3)): return x",
        "jax.numpy.zeros at import",
    ),
    ("rlx/ops/td.py", "import os\nX = os.environ['HOME']", "os.environ at import time"),
    ("rlx/ops/td.py", "from os import getenv\nX = getenv('HOME')", "os.getenv at import time"),
    (
        "rlx/ops/td.py",
        "from pathlib import Path\nX = Path('a').read_text()",
        "read_text at import time",
    ),
    ("rlx/ops/td.py", "class A:\n    X = open('a')", "open at import time"),
    ("configs/sac.py", "import os\nif 'X' in os.environ:\n    A = 1", "os.environ at import time"),
]
HONEST = [
    (
        "rlx/agents/sac.py",
        "from rlx.nn.mlp import MLP\nfrom rlx.ops import td\nfrom rlx.types import Learner",
    ),
    ("rlx/agents/__init__.py", "from rlx.agents import sac"),
    ("rlx/agents/sac.py", "from rlx.names import nearest"),
    ("rlx/serve/vla.py", "from rlx.agents import vla\nfrom rlx.infra import checkpoint"),
    ("rlx/infra/errors.py", "from rlx.names import nearest"),
    ("rlx/envs/core.py", "from rlx.names import nearest"),
    ("rlx/guidance/smc.py", "from rlx.guidance.core import split\nfrom rlx.types import PyTree"),
    ("rlx/envs/mjx.py", "def f():\n    from mujoco_playground import registry\n    import mujoco"),
    ("rlx/envs/mjx.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mujoco"),
    (
        "rlx/tokenizers/bpe.py",
        "import numpy as np\nfrom rlx.ops.dct import dct\ndef f():\n    import tokenizers",
    ),
    (TOKENIZERS_COMMAND[0], "def f():\n    from rlx.data.recorded import action_chunks"),
    ("rlx/infra/logging.py", "def f():\n    import wandb\n    import tqdm"),
    ("rlx/infra/checkpoint.py", "def f():\n    import orbax.checkpoint as ocp"),
    ("rlx/data/rlds.py", "def f():\n    import tensorflow_datasets as tfds"),
    (
        "rlx/scaling/rules.py",
        "import numpy as np\nfrom rlx.scaling.table import load\nfrom . import curves",
    ),
    ("rlx/ops/td.py", "import jax\nimport jax.numpy as jnp\nf = jax.jit(lambda x: jnp.sum(x))"),
    (
        "rlx/ops/td.py",
        "import jax.numpy as jnp\nX: jnp.ndarray\nTYPE = jnp.float32\ndef f(): return jnp.zeros(3)",
    ),
    ("rlx/ops/td.py", "import os\nif __name__ == '__main__':\n    print(os.environ)"),
    (
        "configs/vla.py",
        "from ml_collections import ConfigDict\nfrom configs import common\nimport math",
    ),
    (
        "configs/vla.py",
        "from rlx.agents import vla\ndef get_config(arg=''): return vla.get_config()",
    ),
    ("configs/vla.py", "from rlx.agents.vla import get_config as base"),
    ("tpu/launch.py", "import os\nos.environ['JAX_PLATFORMS'] = 'cpu'\nfrom tpu import plan"),
    ("experiments/smoke.py", "from rlx.agents import sac\nfrom rlx.train import online"),
    ("notebooks/pareto.ipynb", "import rlx.scaling.curves\nimport matplotlib.pyplot as plt"),
]


@pytest.mark.parametrize(("path", "source", "says"), PLANTED)
def test_a_planted_violation_is_found(path, source, says):
    assert any(says in line for line in violations(path, source)), violations(path, source)


@pytest.mark.parametrize(("path", "source"), HONEST)
def test_an_honest_file_passes(path, source):
    assert violations(path, source) == []


def test_notebook_source_skips_text_and_magics():
    cells = [
        {"cell_type": "markdown", "source": ["import rlx.train"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "!ls\n", "import rlx.agents"]},
    ]
    source = notebook_source(json.dumps({"cells": cells}))
    assert [i.target for i in imports(ast.parse(source))] == ["rlx.agents"]


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("rlx/types.py", 180),
        ("rlx/train/driver.py", 200),
        ("rlx/train/online.py", 250),
        ("rlx/agents/rl/sac.py", 300),
        ("experiments/smoke.py", 100),
        ("experiments/benchmarks/online.py", None),
        ("tests/architecture_test.py", None),
    ],
)
def test_budget_of(path, lines):
    assert budget(path) == lines
