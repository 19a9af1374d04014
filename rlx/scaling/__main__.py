"""Command line: `python -m rlx.scaling fit TABLE... --out DIR`, `plot DIR`, `recommend DIR --budget
F`."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

from rlx.scaling import advice_text, published_report, readers, report, runs
from rlx.scaling.errors import ScalingError
from rlx.scaling.recommend import recommend
from rlx.scaling.suggest import suggest

EXIT_BAD_INPUT = 2  # as argparse


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(v) for v in text.split(","))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text.lower() == "true"


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _max_return(text: str) -> float | str | dict[str, float]:
    """A number, 'auto', or task=value,task=value."""
    if "=" in text:
        return {task: float(value) for task, value in (pair.split("=") for pair in text.split(","))}
    return text if text in ("auto", "cos") else float(text)


def _one_or_more(text: str) -> float | tuple[float, ...]:
    values = _numbers(text)
    return values[0] if len(values) == 1 else values


def _net(text: str) -> tuple:
    """OBS,ACT,CRITIC,ACTOR with widths joined by x, e.g. 17,6,256x256,256x256."""
    obs, act, critic, actor = text.split(",")
    widths = (tuple(int(w) for w in hidden.split("x")) for hidden in (critic, actor))
    return (int(obs), int(act), *widths)


def parser() -> argparse.ArgumentParser:
    """All commands and options; names as in `rlx.scaling.options.Options`."""
    top = argparse.ArgumentParser(prog="python -m rlx.scaling", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    fit = commands.add_parser(
        "fit", help="fit the laws of a results table, or of published coefficients"
    )
    fit.add_argument(
        "tables", nargs="*", help="CSV, .csv.gz, .npz, .jsonl, run directories, or globs of them"
    )
    fit.add_argument("--published", help="dmc or gym: the shipped coefficients instead of a table")
    fit.add_argument("--out", required=True, help="directory to write")
    fit.add_argument("--overwrite", action="store_true", help="replace an existing fit.json")
    typed = {
        "return_source": (str, "eval or train returns"),
        "algo": (str, "algorithm, if the table has several"),
        "tasks": (_words, "comma-separated tasks"),
        "preset": (str, "cos (Fu et al., 2025, as published) or cos_improved"),
        "model_size": (
            _one_or_more,
            "critic parameters N: select one or N1,N2,..., or fill blanks",
        ),
        "size_batch": (_number_or_text, "price on the size axis: rule (fitted) or a number (256)"),
        "batch_size": (
            _number_or_text,
            "for a blank column: a number, or dmc / gym (published rule)",
        ),
        "max_return": (_max_return, "number, task=number,..., auto or cos"),
        "max_nan": (float, "share of bootstrap means that may miss a reached level"),
        "unfinished": (str, "a configuration that misses the top level loses that level, or cell"),
        "thresholds": (_numbers, "comma-separated levels J"),
        "reset_grad_steps": (float, "gradient steps between network resets, 0: none"),
        "interpolate": (_flag, "true: linear crossings"),
        "bootstrap": (int, "replicates"),
        "seed": (int, "of the bootstrap"),
        "resample_tasks": (_flag, "true: bootstrap tasks too"),
        "require_complete": (_flag, "false: pool whatever tasks there are"),
        "hparam_mean": (str, "arithmetic or geometric"),
        "loss": (str, "mse, log_mse or huber_log"),
        "weighted": (_flag, "true: weight UTDs by 1 / variance"),
        "three_utds": (str, "fix (Dmin = 0) or refuse"),
        "delta": (float, "price of one transition, FLOPs or seconds"),
        "compute": (str, "flops, or seconds (measured wall_s)"),
        "method": (str, "continuous or grid100"),
        "holdout": (int, "top levels kept out of the budget law"),
        "net": (_net, "OBS,ACT,CRITIC,ACTOR, e.g. 17,6,256x256,256x256: exact FLOPs of a SAC"),
        "data_scale": (float, "published coefficients only: env steps per unit of D"),
    }
    for name, (kind, text) in typed.items():
        fit.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, help=text)
    fit.set_defaults(names=tuple(typed))
    plot = commands.add_parser("plot", help="redraw the figures of a report directory")
    plot.add_argument("dir")
    ask = commands.add_parser("recommend", help="what to run with a budget")
    ask.add_argument("dir")
    ask.add_argument("--budget", type=float, required=True, help="F = C + delta D")
    ask.add_argument("--delta", type=float, help="another price of a transition than the fitted")
    ask.add_argument("--axis", default="auto", help="utd, size (joint optimum) or auto")
    ask.add_argument("--json", action="store_true", help="print JSON")
    ask.add_argument("--run_config", help="config of the sweep, e.g. configs/scaling_laws.py:study")
    nxt = commands.add_parser("suggest", help="the next runs that narrow a prediction most")
    nxt.add_argument("dir")
    nxt.add_argument("--budget", type=float, help="F; default: the middle of the fitted optima")
    nxt.add_argument("--runs", type=int, default=5, help="how many")
    nxt.add_argument("--target", default="utd", help="utd (sigma*), size (N*) or data (D)")
    nxt.add_argument("--by", default="shrink", help="shrink, or cost: shrink per cost")
    nxt.add_argument("--seeds", type=int, help="random seeds per run; default: as the sweep")
    nxt.add_argument("--axis", default="auto", help="utd, size or auto")
    nxt.add_argument("--json", action="store_true", help="print JSON")
    nxt.add_argument("--run_config", help="config of the sweep, e.g. configs/scaling_laws.py:study")
    return top


def _fit(args: argparse.Namespace) -> None:
    if (Path(args.out) / "fit.json").exists() and not args.overwrite:
        raise ScalingError(
            f"{Path(args.out) / 'fit.json'} exists; add --overwrite or choose another --out"
        )
    options = {name: getattr(args, name) for name in args.names if hasattr(args, name)}
    if bool(args.tables) == bool(args.published):
        raise ScalingError("give either tables or --published dmc|gym")
    if args.published:
        result = report.report_published(args.published, **options)
    else:
        tables = [path for pattern in args.tables for path in _expand(pattern)]
        coefficients = _coefficients(tables)
        if coefficients is not None:
            result = _fit_coefficients(coefficients, options)
        elif "data_scale" in options:
            raise ScalingError("--data_scale applies to published coefficients only")
        else:
            result = report.report(tables, **options)
    for path in report.write(result, args.out, args.overwrite):
        print(path)
    print()
    print((Path(args.out) / "report.txt").read_text(encoding="utf-8"))


def _expand(pattern: str) -> list[str]:
    """A glob becomes the run logs it matches; a plain path stays."""
    found = (
        [str(p) for p in runs.find_files(pattern)]
        if any(c in pattern for c in "*?[")
        else [pattern]
    )
    if not found:
        raise ScalingError(f"nothing matches '{pattern}'")
    return found


def _coefficients(tables: list[str]) -> list[dict] | None:
    """The rows of a data_fits.csv-shaped table, or None for a table of runs."""
    if len(tables) != 1:
        return None
    raw = readers.read(tables[0])
    if not all(name in raw.columns for name in published_report.FIT_COLUMNS):
        return None
    return [dict(zip(raw.columns, row)) for row in zip(*raw.columns.values())]


def _fit_coefficients(rows: list[dict], options: dict) -> dict:
    names = sorted({row["benchmark"] for row in rows})
    chosen = options.pop("tasks", tuple(names))
    if len(chosen) != 1:
        raise ScalingError(
            f"the table has several benchmarks; choose one with --tasks={'|'.join(names)}"
        )
    return report.report_published(chosen[0], rows, **options)


def _plot(args: argparse.Namespace) -> None:
    from rlx.scaling import plots

    for path in plots.write_all(report.load(args.dir), Path(args.dir)):
        print(path)


def _recommend(args: argparse.Namespace) -> None:
    advice = recommend(report.load(args.dir), args.budget, args.delta, args.axis, args.run_config)
    if args.json:
        print(json.dumps(advice, indent=1, allow_nan=False))
    else:
        print(advice_text.recommendation(advice))


def _suggest(args: argparse.Namespace) -> None:
    plan = suggest(
        report.load(args.dir), args.budget, args.runs, args.target, args.by, args.seeds, args.axis,
        args.run_config,
    )  # fmt: skip
    if args.json:
        print(json.dumps(plan, indent=1, allow_nan=False))
    else:
        print(advice_text.suggestion(plan))


def main(argv: list[str] | None = None) -> int:
    """Run a command; bad input gives one line on stderr and exit code 2."""
    args = parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            COMMANDS[args.command](args)
    except (ScalingError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


COMMANDS = {"fit": _fit, "plot": _plot, "recommend": _recommend, "suggest": _suggest}

if __name__ == "__main__":
    sys.exit(main())
