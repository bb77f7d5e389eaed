"""Whatever is typed, or found in a file, is either taken or refused with an ArithlabError."""

import hashlib
import json
import re
from functools import cache

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from arithlab import Experiment
from arithlab.arithmetic.domains import domain
from arithlab.arithmetic.formats import format_
from arithlab.arithmetic.tasks import task
from arithlab.errors import ArithlabError
from arithlab.model.positions import POSITIONS
from arithlab.notebook.execute import parse_parameters
from arithlab.training.grids import grid, read_grid
from arithlab.training.runs import Run, list_runs, read_tensors, write_tensors

COUNT = 10_000
ODD = [
    *" ;:(){}'\"\\/%#\n\t.-_eE", "nan", "inf", "1e5", "99999999", "9" * 400,
    "\u0661", "\uff11", "\u00b2", "\u00e9", "\u2212", "\u200b", "\u00a0", "\U0001f600", "\x00", "\ud800",
]  # fmt: skip
GRAMMAR = {  # what the texts of each kind are made of
    task: ["add", "mul", " mod ", " base ", " ", *"0123456789"],
    domain: ["D_", "D_ab", "digits=", "place", "place0=", "chain=", "6-9", "02468", "a-f", *"+*[],=.-0123456789"],
    format_: ["padded ", "unpadded", "p1", "p2 ", " operands", " answer", " high", " units", " ", *"0123456789"],
}
VALID = {
    task: ["add", "mul mod 50", "add mod 101 base 7", "mul base 36", "add mod 18446744073709551629"],
    domain: [
        "D_4", "D_ab4", "D_4+D_5", "3*D_4+0.5*D_ab5", "D_3[digits=6-9]", "D_3[place0=0]", "D_9[chain=4]",
        "D_12[chain=0,digits=0-4,place3=1]", "2*D_ab2[digits=13579]+D_1+D_7[place2=a-c]",
    ],
    format_: ["padded 9", "padded 9 answer high", "unpadded operands high", "p1", "p2 5", "padded 12 answer high"],
}  # fmt: skip


def texts(parse) -> list[str]:
    """COUNT texts: some thrown together, most of them valid ones with a few edits."""
    rng = np.random.default_rng(0)

    def pick(items):
        return items[int(rng.integers(len(items)))]

    def piece() -> str:
        return pick(GRAMMAR[parse] if rng.random() < 0.8 else ODD)

    def mutated() -> str:
        text = pick(VALID[parse])
        for _ in range(int(rng.integers(1, 3))):
            i, j = sorted(rng.integers(0, len(text) + 1, 2).tolist())
            text = pick([
                text[:i] + text[i + 1 :],
                text[:i] + piece() + text[i:],
                text[:i] + piece() + text[i + 1 :],
                text[:j] + text[i:],
                text[:i] + pick(VALID[parse])[j:],
                text + pick(["+", " ", ","]) + pick(VALID[parse]),
            ])  # fmt: skip
        return text

    thrown = ["".join(piece() for _ in range(int(rng.integers(0, 9)))) for _ in range(COUNT // 4)]
    return thrown + [mutated() for _ in range(COUNT - len(thrown))]


@cache
def taken(parse) -> list:
    """What `parse` makes of the texts that it takes; any exception but an ArithlabError fails the test."""
    found = []
    for text in texts(parse):
        try:
            found.append(parse(text))
        except ArithlabError:
            continue
        except Exception as error:
            pytest.fail(f"{parse.__name__}({text!r}) raised {error!r}")
    return found


@pytest.mark.parametrize("parse", [task, domain, format_])
def test_every_text_is_taken_or_refused_and_what_is_taken_reads_back_as_itself(parse):
    found = taken(parse)
    assert [parse(str(one)) for one in found] == found
    assert COUNT / 40 < len(found) < COUNT / 2  # the fuzz gets past the parser, and is often stopped by it


@pytest.mark.filterwarnings("error")
def test_every_domain_that_passes_its_check_can_be_sampled():
    refused, sampled = 0, 0
    for d in taken(domain):
        if d.digits > 12:
            continue
        try:
            d.check(10)
        except ArithlabError:
            refused += 1
            continue
        a, b = d.sample(np.random.default_rng(0), 5, 10)
        assert a.shape == b.shape == (5, d.digits), d
        assert max(a.max(), b.max()) < 10, d
        sampled += 1
    assert sampled > 500
    assert refused > 50


def refusals(call, given) -> int:
    """How many of the given things are refused with an ArithlabError; any other exception fails the test."""
    refused = 0
    for one in given:
        try:
            call(one)
        except ArithlabError:
            refused += 1
        except Exception as error:
            pytest.fail(f"{one!r:.500} raised {error!r}")
    return refused


def put(path, data: bytes) -> None:
    """Write a file anew: much quicker than over an old one, which file systems sync."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def anything(rng, depth=2):
    """A value such as JSON or TOML may hold."""
    kind = int(rng.integers(9 if depth else 7))
    if kind == 7:
        return [anything(rng, depth - 1) for _ in range(int(rng.integers(3)))]
    if kind == 8:
        return {str(anything(rng, 0)): anything(rng, depth - 1) for _ in range(int(rng.integers(3)))}
    return [
        None, bool(rng.integers(2)), int(rng.integers(-3, 300)), 10 ** int(rng.integers(400)), float(rng.normal()),
        float(rng.choice([np.nan, np.inf, -np.inf, 1e300, 0.0])),
        "".join(rng.choice(ODD + list("add7D_")) for _ in range(4)),
    ][kind]  # fmt: skip


def configs():
    """COUNT descriptions of an experiment: valid ones with some fields set to something else, or to anything."""
    rng = np.random.default_rng(1)
    plain = Experiment().to_json()
    mild = {
        "task": VALID[task], "train": VALID[domain], "format": VALID[format_], "positions": list(POSITIONS),
        "size": ["2-3-64", "1-1-8", "9-9-9", "gpt2"], "steps": [0, 1, 10**9], "batch": [1, 10**12],
        "pairs": [1, 10**30], "context": [1, 2, 500],
        "optimizer": ["adamw"], "schedule": ["cosine"], "seed": [2**63, 5], "lr": [0, 1], "dropout": [0.5, 1.0],
    }  # fmt: skip
    for _ in range(COUNT):
        config = dict(plain)
        for name in rng.choice(list(plain), int(rng.integers(1, 4))):
            values = mild.get(name, [1])
            config[name] = values[int(rng.integers(len(values)))] if rng.random() < 0.6 else anything(rng)
        if rng.random() < 0.05:
            config[str(anything(rng, 0))] = 1
        yield config


def test_every_config_is_an_experiment_or_is_refused_and_what_is_one_reads_back_as_itself():
    def read(config):
        experiment = Experiment.from_json(config)
        assert Experiment.from_json(json.loads(json.dumps(experiment.to_json()))) == experiment
        assert re.fullmatch(r"[0-9a-f]{12}", experiment.id)

    assert COUNT / 10 < refusals(read, configs()) < 0.9 * COUNT
    rng = np.random.default_rng(2)
    refusals(Experiment.from_json, [anything(rng) for _ in range(1_000)])


def test_every_grid_file_is_taken_or_refused(tmp_path):
    rng = np.random.default_rng(3)
    path = tmp_path / "grid.toml"
    valid = (
        '[common]\nsteps = 9\nseed = [0, 1]\n\n[[runs]]\ntask = ["add", "mul mod 5"]\npositions = "rope"\n\n'
        '[[runs]]\ntrain = "D_3"\nlr = 1e-3\n'
    )
    pieces = [
        "[",
        "]",
        "[[",
        "]]",
        "=",
        '"',
        "'",
        "\n",
        "{",
        "}",
        ",",
        "[common]",
        "[[runs]]",
        "seed",
        "true",
        "1_0",
        "-",
        ".",
        *ODD,
    ]

    def text():
        made = valid
        for _ in range(int(rng.integers(1, 4))):
            i, j = sorted(rng.integers(0, len(made) + 1, 2).tolist())
            piece = pieces[int(rng.integers(len(pieces)))]
            made = [made[:i] + piece + made[i:], made[:i] + made[i + 1 :], made[:i] + made[j:]][int(rng.integers(3))]
        return made.encode(errors="surrogatepass")

    def read(data):
        put(path, data)
        assert len(read_grid(path).experiments) <= 10_000

    assert COUNT / 5 < refusals(read, (text() for _ in range(COUNT // 2))) < COUNT / 2

    def tables(data):
        assert grid(data)

    refusals(
        tables, ({str(k): anything(rng) for k in rng.choice(["common", "runs", "x"], 2)} for _ in range(COUNT // 2))
    )


def test_whatever_bytes_a_checkpoint_has_it_is_read_or_refused(tmp_path):
    """With the right sha256, too: what safetensors makes of a header is safetensors' affair, not the reader's."""
    rng = np.random.default_rng(4)
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.arange(6.0), "b": torch.zeros(2, 3, dtype=torch.int64)}, {"step": 3})
    whole = path.read_bytes()

    def damaged():
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(data))) if rng.random() < 0.5 else int(rng.integers(min(len(data), 120)))
            kind = int(rng.integers(4))
            if kind == 0:
                data[at] = int(rng.integers(256))
            elif kind == 1:
                del data[at : at + int(rng.integers(1, 30))]
            elif kind == 2:
                data[at:at] = rng.bytes(int(rng.integers(1, 9)))
            else:
                data[at : at + 4] = b'{"}9'
            data = data or bytearray(b"x")
        return bytes(data)

    def read(data):
        put(path, data)
        if rng.random() < 0.8:
            put(path.with_suffix(".sha256"), hashlib.sha256(data).hexdigest().encode())
        tensors, scalars = read_tensors(path)
        assert sum(tensor.numel() for tensor in tensors.values()) <= len(data)
        json.dumps(scalars)

    assert COUNT / 4 < refusals(read, (damaged() for _ in range(COUNT))) < COUNT


def test_whatever_is_in_a_run_folder_it_is_finished_or_not(tmp_path, monkeypatch):
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # far from the recorded runs
    rng = np.random.default_rng(5)
    run = Run.of(Experiment(steps=7))
    run.path.mkdir(parents=True)
    for _ in range(1_000):
        for name in ("config.json", "manifest.json", "metrics.jsonl"):
            put(run.path / name, json.dumps(anything(rng)).encode())
        assert not run.finished
    assert list_runs() == []


def test_whatever_is_given_as_a_notebooks_parameter_is_taken_or_refused(tmp_path):
    rng = np.random.default_rng(6)
    path = tmp_path / "99_x.ipynb"
    cell = new_code_cell(
        'QUICK: bool = False  # q\nSEED: int = 0  # s\nRATE: float = 0.1  # r\nOUT: str = ""  # o',
        metadata={"tags": ["parameters"]},
    )
    nbformat.write(new_notebook(cells=[cell]), path)
    kinds = {"QUICK": bool, "SEED": int, "RATE": float, "OUT": str}
    words = ["True", "1", "-7", "1e5", "0.5", *ODD]

    def read(given):
        assert all(type(value) is kinds[name] for name, value in parse_parameters(path, given).items())

    def text():
        return "".join(words[int(rng.integers(len(words)))] for _ in range(int(rng.integers(1, 3))))

    names = [*kinds, "seed", "SEED ", "__class__", "import"]
    given = [{names[int(rng.integers(len(names)))]: text()} for _ in range(1_000)]
    assert 300 < refusals(read, given) < 1_000
