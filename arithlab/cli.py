"""The commands. `--json` prints one JSON document on standard output and nothing else there.

Exit 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

import argparse
import contextlib
import json
import os
import re
import sys
from pathlib import Path

from .arithmetic.domains import domain
from .arithmetic.encodings import BY_PLACE, KIND, encoding
from .arithmetic.formats import format_
from .arithmetic.tasks import task
from .arithmetic.theory import predict
from .errors import ArithlabError, PackageMissing

MAX_LENGTHS = 1_000  # test lengths in one table


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence, like those of the package."""

    def error(self, message: str) -> None:
        raise ArithlabError(f"{message}. See {self.prog} --help.")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        given = _parser().parse_args(arguments)
        return given.command(given) or 0
    except ArithlabError as error:
        print(f"arithlab: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:  # of the notebooks' packages: those of the other commands are always there
        if (error.name or "arithlab").startswith("arithlab"):
            raise
        print(f"arithlab: {PackageMissing(error.name, 'lab')}", file=sys.stderr)
        return PackageMissing.exit_code
    except KeyboardInterrupt as stop:
        print(f"arithlab: interrupted{f': {stop}' if str(stop) else ''}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="arithlab", description="How small Transformers generalise, or fail to, on arithmetic.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, function, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=function)
        return sub

    sub = command("run", _run, "execute notebooks headless")
    sub.add_argument("notebook", help="a notebook's number, name or file, or 'all'")
    sub.add_argument("--quick", action="store_true", help="small models and few examples: about 90 seconds each")
    sub.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")

    sub = command("train", _train, "train one model and show what it learned")
    _asks_for_task(sub)
    sub.add_argument(
        "--format", help="for example 'padded 9', 'unpadded', 'p1', 'p2 5' (default: padded to the longest test)"
    )
    sub.add_argument("--size", default="tiny", help="tiny, small, nano, micro, mini, gpt2 ... or layers-heads-width")
    sub.add_argument("--seed", type=_whole("seed", 0), default=0)
    budget = sub.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=_whole("steps", 1), help="optimiser steps")
    budget.add_argument("--minutes", type=float, help="train for about so long on this machine")
    sub.add_argument(
        "--recipe", choices=("fast", "faithful"), default="fast", help="our settings, or those of 2407.17963"
    )
    sub.add_argument("--device", default="auto")
    sub.add_argument("--digits", type=_lengths, help="test lengths, for example 1-9 (default) or 1,2,5-8")
    sub.add_argument("--test-domain", choices=("D", "D_ab"), help="family of test domains (default: the paper's)")
    sub.add_argument("--examples", type=_whole("examples", 1), default=2_000, help="test examples per length")
    sub.add_argument("--json", action="store_true")

    sub = command(
        "in-context", _in_context, "train one model on tasks z = a x + b y mod p in context, and show its phase"
    )
    sub.add_argument("--p", type=_whole("p", 2), help="the modulus (default: that of the fast preset)")
    sub.add_argument("--tasks", type=_whole("tasks", 1), help="tasks of pre-training, at most p^2")
    sub.add_argument("--alpha", type=float, help="share of the inputs that training uses, between 0 and 1")
    sub.add_argument("--shots", type=_whole("shots", 0), help="examples before the question")
    sub.add_argument("--rule", help="how the tasks are chosen: rectangular (default) or random")
    sub.add_argument("--size", help="layers-heads-width, or in-context-2, in-context-4, in-context-6")
    sub.add_argument("--steps", type=_whole("steps", 1), help="optimiser steps")
    sub.add_argument("--seed", type=_whole("seed", 0))
    sub.add_argument(
        "--recipe", choices=("fast", "faithful"), default="fast", help="our settings, or those of 2406.02550"
    )
    sub.add_argument("--device", default="auto")
    sub.add_argument("--json", action="store_true")

    sub = command("ask", _ask, "what a trained model answers, with the digits lined up")
    sub.add_argument("run", help="a run id, the beginning of one, or a run's folder")
    sub.add_argument("question", nargs="?", help="for example 349+705")
    sub.add_argument(
        "--examples", metavar="FILE", help="a file with one question per line; '=' and what follows is ignored"
    )
    sub.add_argument("--json", action="store_true")

    sub = command("predict", _predict, "what theory says a model will do")
    _asks_for_task(sub)
    sub.add_argument("--format", default="padded 9", help="'padded 9' (default), aligned, remainders, unpadded, ...")
    sub.add_argument("--digits", type=_lengths, help="test lengths, for example 1-9 (default) or 1,2,5-8")
    sub.add_argument("--json", action="store_true")

    sub = command("sweep", _sweep, "train every run of a grid file")
    sub.add_argument("grid", help="a TOML file: [common] and [[runs]] with fields of an experiment, or lists of values")
    where = sub.add_mutually_exclusive_group()
    where.add_argument("--workers", type=_whole("workers", 1), help="processes (default: one per core)")
    where.add_argument("--dask", metavar="ADDRESS", help="a Dask scheduler, such as tcp://host:8786; local starts one")
    sub.add_argument("--retry", action="store_true", help="train failed runs again")
    sub.add_argument("--json", action="store_true")

    sub = command("ledger", _ledger, "every claim of the papers: theirs, ours, verdict")
    sub.add_argument("--json", action="store_true")

    sub = command("export", _export, "executed notebooks as HTML that opens offline")
    sub.add_argument("--out", type=Path, help="folder (default: html, beside the executed notebooks)")

    sub = command("doctor", _doctor, "what is installed, what is missing, how fast this machine is")
    sub.add_argument("--json", action="store_true")
    return parser


def _asks_for_task(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--task", default="add", help="add, mul, 'add mod 101', 'mul mod 50 base 7', ... (default: add)")
    sub.add_argument("--train", default="D_4", help="training domain: D_4, D_ab4, D_4+D_5, ... (default: D_4)")
    sub.add_argument(
        "--positions",
        default="learned",
        help=f"{', '.join(KIND)}, then options such as 'places window 1' (default: learned)",
    )


def _whole(name: str, lowest: int):
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) < lowest:
            raise ArithlabError(f"{name} {text[:40]!r}: allowed are whole numbers from {lowest}.")
        return int(text)

    return parse


def _lengths(text: str) -> list[int]:
    """Test lengths from text such as `1-9` or `1,2,5-8`."""
    found: list[int] = []
    for piece in text.split(","):
        match = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", piece.strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not match or low < 1 or high < low or high - low >= MAX_LENGTHS:
            raise ArithlabError(
                f"digits {text[:40]!r}: write lengths from 1, such as 1-9 or 1,2,5-8, at most {MAX_LENGTHS} of them."
            )
        found += range(low, high + 1)
    return sorted(set(found))


def _print_json(data: object) -> None:
    print(json.dumps(data, indent=1))


def _percent(value: float | None) -> str:
    return "-" if value is None or value != value else f"{100 * value:.2f}"


def _table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _predict(given: argparse.Namespace) -> None:
    t, train, chosen, fmt = task(given.task), domain(given.train), encoding(given.positions), format_(given.format)
    if train.terms > 2 or chosen.name in BY_PLACE or chosen.randomized or fmt.name == "unpadded":
        # what an experiment may refuse and theory does not ask; only here, because loading torch takes seconds
        from .training.experiment import Experiment

        Experiment(task=given.task, train=given.train, positions=given.positions, format=given.format)
    rows = predict(t, train, given.positions, given.digits or list(range(1, 10)), given.format)
    if given.json:
        _print_json({"task": str(t), "train": str(train), "positions": given.positions, "rows": rows})
        return
    tested = "D_n[b=1]" if fmt.repeated else "D_ab"
    print(f"{t}, trained on {train}, positions {given.positions}: tested on {tested} of each length")
    _table(
        ["digits", "accuracy %", "limit %", "computes"],
        [
            [r["digits"], _percent(r["predicted_accuracy"]), _percent(r["limit_accuracy"]), r["predicted_function"]]
            for r in rows
        ],
    )
    print(f"because: {rows[0]['reason']}")


def _train(given: argparse.Namespace) -> None:
    from .training.estimate import steps_in
    from .training.evaluate import evaluate
    from .training.experiment import Experiment
    from .training.fit import train

    lengths = given.digits or list(range(1, 10))
    train_digits = domain(given.train).digits
    width = max(*lengths, train_digits, 2)
    fields = {name: getattr(given, name) for name in ("task", "train", "positions", "size", "seed")}
    fields["format"] = given.format or ("p1" if given.recipe == "faithful" else f"padded {width}")
    if given.recipe == "faithful":
        fields["size"] = given.size if given.size != "tiny" else "mini"
    experiment = Experiment.faithful(**fields) if given.recipe == "faithful" else Experiment(**fields)
    for length in lengths:
        experiment.format_.check(experiment.task_, length)
    if given.minutes is not None:
        if not 0 < given.minutes < 10**6:
            raise ArithlabError(f"minutes {given.minutes}: allowed are numbers above 0.")
        experiment = experiment.with_(steps=steps_in(experiment, 60 * given.minutes, given.device))
    elif given.steps:
        experiment = experiment.with_(steps=given.steps)
    with contextlib.redirect_stdout(sys.stderr if given.json else sys.stdout):
        run = train(experiment, given.device, weights=True)
    frame = evaluate(run, lengths, test_family=given.test_domain, n=given.examples)
    summary = run.summary
    if given.json:
        keys = ["domain", "digits", "n", "exact_match", "agreement"]
        rows = json.loads(frame[keys].to_json(orient="records"))
        head = {"run": run.id, "seed": experiment.seed}
        _print_json({**head, **{k: summary[k] for k in ("parameters", "steps", "seconds")}, "rows": rows})
        return
    print(f"run {run.id}: {summary['parameters']:,} parameters, {summary['steps']:,} steps, {summary['seconds']:.0f} s")
    print(f"exact match with the truth, and agreement with {experiment.predicted}")
    _table(
        ["domain", "n", "exact match %", "agreement %"],
        [[r.domain, r.n, _percent(r.exact_match), _percent(r.agreement)] for r in frame.itertuples()],
    )
    print(f"ask it: arithlab ask {run.id} 349{experiment.task_.symbol}705")


def _in_context(given: argparse.Namespace) -> None:
    from .training.fit import train
    from .training.in_context import InContextExperiment
    from .training.shots import by_shots, outcome, sets_of

    names = ("p", "tasks", "alpha", "shots", "rule", "size", "steps", "seed")
    fields = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    experiment = (InContextExperiment.faithful if given.recipe == "faithful" else InContextExperiment)(**fields)
    if experiment.notice:
        print(experiment.notice, file=sys.stderr)
    with contextlib.redirect_stdout(sys.stderr if given.json else sys.stdout):
        run = train(experiment, given.device, weights=True)
    found, curves = outcome(run), {name: by_shots(run, name).exact_match.tolist() for name in sets_of(experiment)}
    if given.json:
        _print_json({"run": run.id, "seconds": run.summary["seconds"], **found, "by_shots": curves})
        return
    print(f"run {run.id}: {run.summary['parameters']:,} parameters, {run.summary['seconds']:.0f} s; {found['phase']}")
    print(f"accuracy (%) by number of examples, at the end; the best step was {found['best_step']:,}")
    shots = range(max(map(len, curves.values())))
    rows = [[name, *map(_percent, curve), *[""] * (len(shots) - len(curve))] for name, curve in curves.items()]
    _table(["set", *map(str, shots)], rows)


def _ask(given: argparse.Namespace) -> None:
    from .training.answer import lined_up, rows_of
    from .training.runs import find_run

    if (given.question is None) == (given.examples is None):
        raise ArithlabError("give either one question, such as 349+705, or --examples FILE.")
    run = find_run(given.run)
    if given.examples is not None:
        try:
            lines = Path(given.examples).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ArithlabError(
                f"cannot read {given.examples!r}: {getattr(error, 'strerror', None) or 'it is no text'}."
            ) from error
        questions = [line for line in lines if line.strip()]
        if not questions:
            raise ArithlabError(f"{given.examples!r} holds no questions: write one per line, such as 349+705.")
    else:
        questions = [given.question]
    rows = rows_of(run, questions)
    if given.json:
        _print_json({"run": run.id, "rows": rows})
    elif given.examples is None:
        print(lined_up(run.experiment.task_, rows[0]))
    else:
        _table(
            ["question", "answer", "truth", "correct"],
            [[r["question"], r["answer"], r["truth"], "yes" if r["correct"] else "no"] for r in rows],
        )
        print(f"{sum(r['correct'] for r in rows)} of {len(rows)} right")


def _run(given: argparse.Namespace) -> int:
    from .notebook.execute import run_notebooks

    return run_notebooks(given.notebook, dict(given.p), quick=given.quick)


def _sweep(given: argparse.Namespace) -> int:
    from .training.sweep import sweep

    frame = sweep(given.grid, workers=given.workers, dask=given.dask, retry=given.retry)
    if given.json:
        _print_json({"grid": given.grid, "rows": json.loads(frame.to_json(orient="records"))})
    else:
        right = [name for name in frame if name.startswith("exact_match_")]
        frame = frame[[name for name in frame if not name.startswith("agreement_")]]
        print("exact match in % by number of digits: what [test] of the grid found, else at the end of training")
        _table(
            [name.removeprefix("exact_match_") for name in frame],
            [
                [_percent(value) if name in right else value for name, value in row.items()]
                for row in frame.to_dict("records")
            ],
        )
    return 0 if (frame["state"] == "finished").all() else 1


def _ledger(given: argparse.Namespace) -> None:
    from .claims import VERDICTS
    from .ledger import ledger

    found = ledger()
    if given.json:
        _print_json({"claims": found.to_dict("records")})
        return
    for paper, rows in found.groupby("paper", sort=False):
        print(f"\narXiv:{paper}")
        for row in rows.to_dict("records"):
            print(f"  {row['id']}: {row['claim']}")
            if row["ours"]:
                print(f"    theirs: {row['theirs']}")
                print(f"    ours: {row['ours']}, {row['seeds']} seeds; {row['holds']} hold: {row['rule']}")
            reason = row["condition"] or (row["rule"] if not row["ours"] else "")
            print(f"    {row['verdict']}{f' ({reason})' if reason else ''}")
    print("\n" + ", ".join(f"{(found['verdict'] == verdict).sum()} {verdict}" for verdict in VERDICTS))
    if (found["verdict"] == VERDICTS[-1]).all():
        print("no recorded runs here: run this in the checkout, which holds them in outputs/reference", file=sys.stderr)


def _export(given: argparse.Namespace) -> None:
    from .notebook.export import export

    pages = export(given.out)
    print(f"{len(pages) - 1} notebooks: open {pages[-1]}")


def _doctor(given: argparse.Namespace) -> int:
    from .notebook.doctor import report

    found = report()
    if given.json:
        _print_json(found)
    else:
        for package in found["packages"]:
            mark = "ok     " if package["ok"] else "MISSING" if package["installed"] is None else "TOO OLD"
            print(f"{mark} {package['name']} {package['installed'] or ''} (needs {package['needs']})")
        for key, value in found["machine"].items():
            print(f"{key}: {value}")
    return 0 if all(package["ok"] for package in found["packages"]) else 1


if __name__ == "__main__":
    sys.exit(main())
