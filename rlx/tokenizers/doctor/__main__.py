"""Is FAST right for these actions, and with which settings?

python -m rlx.tokenizers.doctor actions.npy            array [episodes or chunks, T, A]
python -m rlx.tokenizers.doctor data.npz --key=actions --horizon=50 --json
python -m rlx.tokenizers.doctor FOLDER                 LeRobot 2.x or 3.0, chunks of one second
python -m rlx.tokenizers.doctor FOLDER --format=bridge --delta=1,1,0   RLDS of that robot
Exit code 2, with one line that names the data, where they cannot be read.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np

from rlx.tokenizers.chunks import as_chunks
from rlx.tokenizers.doctor import diagnose, text


def read(args: argparse.Namespace) -> np.ndarray:
    """Return the chunks `[B, T, A]` that the command line names."""
    flags = {"--format": args.format, "--delta": args.delta}
    if args.data.is_dir():
        from rlx.data.recorded import action_chunks  # the readers are not needed for arrays

        if args.key:
            raise ValueError(f"{args.data} is a folder: --key is for .npz files")
        return action_chunks(args.data, args.format, args.horizon, args.delta)
    for name in (name for name, given in flags.items() if given):
        raise ValueError(f"{name} is for folders, {args.data} is none")
    return cut(read_array(args.data, args.key), args.horizon)


def read_array(path: Path, key: str | None = None) -> np.ndarray:
    """Return the actions `[N, T, A]` in an .npy file, or under `key` (default: "actions", or the
    only array) in an .npz file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: expected an .npy or .npz file, or a folder")
    try:
        found = np.load(path)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npy or .npz file of numbers: {error}") from error
    if isinstance(found, np.ndarray):
        return real(found, path)
    key = key or ("actions" if "actions" in found.files else None)
    if key is None and len(found.files) == 1:
        key = found.files[0]
    if key not in found.files:
        raise ValueError(f"{path} has arrays {', '.join(found.files)}: name one with --key")
    return real(found[key], path)


def real(array: np.ndarray, path: Path) -> np.ndarray:
    """Return the array, unless it holds something else than real numbers."""
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path} holds {array.dtype}, actions are real numbers")
    return array


def cut(episodes: np.ndarray, horizon: int | None) -> np.ndarray:
    """Return whole pieces of `horizon` steps `[.., horizon, A]` of episodes `[N, T, A]`."""
    chunks = as_chunks(episodes)
    T, A = chunks.shape[1:]
    if horizon is None:
        return chunks
    if not 1 <= horizon <= T:
        raise ValueError(f"horizon is 1 to the {T} steps of an episode, got {horizon}")
    return chunks[:, : T - T % horizon].reshape(-1, horizon, A)


def mask(text: str) -> list[bool]:
    """Return "1,1,0" as flags."""
    flags = text.split(",")
    if not set(flags) <= {"0", "1"}:
        raise argparse.ArgumentTypeError(f"a 0 or 1 for each action, like 1,1,0, not {text!r}")
    return [flag == "1" for flag in flags]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m rlx.tokenizers.doctor", description="Is FAST right for these actions?"
    )
    parser.add_argument("data", type=Path, help=".npy or .npz [episodes, T, A], or a folder")
    parser.add_argument("--key", help="array of an .npz file")
    parser.add_argument("--format", help="of a folder: lerobot, or a name of rlx/data/oxe.py")
    parser.add_argument("--horizon", type=int, help="steps of a chunk; folders: one second")
    parser.add_argument("--delta", type=mask, help="1,1,0: actions that become state differences")
    parser.add_argument("--rmse", type=float, default=0.02, help="normalised error to stay under")
    parser.add_argument("--vocab-size", type=int, default=1024, help="one of those to try")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    try:
        chunks = read(args)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say is in the diagnosis
            found = diagnose(chunks, args.rmse, args.vocab_size)
    except (ValueError, OSError) as error:
        says = " ".join(str(error).split())
        named = says if str(args.data) in says else f"{args.data}: {says}"
        print(f"error: {named}", file=sys.stderr)
        return 2
    print(json.dumps(found) if args.json else text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
