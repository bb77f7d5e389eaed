"""The commands: their JSON, their exit status, and one clear sentence for every bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arithlab.arithmetic.tasks import task
from arithlab.cli import _parser, main


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path / "out"))
    monkeypatch.setenv("ARITHLAB_QUIET", "1")
    return tmp_path / "out"


TRAIN = ["train", "--train", "D_1", "--size", "1-2-16", "--steps", "60", "--digits", "1-3", "--json"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(output folder, JSON of `train`) of one little run."""
    folder = tmp_path_factory.mktemp("cli")
    patch = pytest.MonkeyPatch()
    patch.setenv("ARITHLAB_OUT", str(folder))
    patch.setenv("ARITHLAB_QUIET", "1")
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(TRAIN) == 0
    yield folder, json.loads(printed.getvalue())
    patch.undo()


def run(words, capsys):
    status = main(words)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_predict_prints_the_promised_json(capsys):
    status, out, err = run(["predict", "--task", "add mod 150", "--digits", "3,9", "--json"], capsys)
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert {k: found[k] for k in ("task", "train", "positions")} == {
        "task": "add mod 150",
        "train": "D_4",
        "positions": "learned",
    }
    assert [set(row) for row in found["rows"]] == [
        {"digits", "predicted_accuracy", "limit_accuracy", "predicted_function", "reason"}
    ] * 2
    assert found["rows"][0]["predicted_accuracy"] == 1.0
    assert found["rows"][1]["predicted_accuracy"] == pytest.approx(1 / 3)
    assert found["rows"][1]["limit_accuracy"] == pytest.approx(1 / 3)


def test_predict_takes_the_format_into_account(capsys):
    asked = ["predict", "--task", "add mod 101", "--positions", "clipped places window 1", "--digits", "200", "--json"]
    accuracies = []
    for fmt in ("aligned", "remainders"):
        status, out, _ = run([*asked, "--format", fmt], capsys)
        assert status == 0
        accuracies.append(json.loads(out)["rows"][0]["predicted_accuracy"])
    assert accuracies == [pytest.approx(1 / 101), 1.0]


@pytest.mark.parametrize(
    ("words", "because"),
    [
        (["--format", "aligned", "--positions", "grid window 1"], "columns and rows"),
        (["--train", "D_4[terms=3]"], "3 operands"),
        (["--train", "D_12", "--format", "padded 9"], "operands of 12 digits do not fit"),
        (["--format", "unpadded answer high", "--positions", "rope places"], "length of the answer beforehand"),
        (["--train", "D_300", "--format", "aligned", "--positions", "coupled"], "learned positions"),
    ],
)
def test_predict_refuses_what_cannot_be_trained(words, because, capsys):
    status, out, err = run(["predict", *words], capsys)
    assert (status, out) == (2, "")
    assert because in err
    assert len(err.splitlines()) == 1


def test_predict_says_on_what_it_is_tested(capsys):
    for fmt, tested in (("aligned", "D_ab"), ("aligned repeated", "D_n[b=1]")):
        status, out, _ = run(["predict", "--task", "mul", "--train", "D_4[b=1]", "--format", fmt], capsys)
        assert status == 0
        assert f"tested on {tested} of each length" in out


def test_predict_needs_no_torch_for_common_settings():
    words = ["predict", "--format", "aligned", "--positions", "clipped places window 1"]
    code = f"import sys; from arithlab.cli import main; main({words}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_predict_prints_a_table(capsys):
    status, out, _ = run(["predict", "--task", "mul"], capsys)
    assert status == 0
    assert len(out.splitlines()) == 12
    assert "because: a digit of the product depends on digits at every distance" in out
    assert "(a mod 10^4) * (b mod 10^4)" in out


def test_train_prints_the_promised_json(trained):
    _, found = trained
    assert {"run", "seed", "parameters", "steps", "seconds", "rows"} == set(found)
    assert found["steps"] == 60
    assert [set(row) for row in found["rows"]] == [{"domain", "digits", "n", "exact_match", "agreement"}] * 3
    assert [row["domain"] for row in found["rows"]] == ["D_1", "D_2", "D_3"]


def test_training_again_costs_nothing(trained, capsys):
    _, before = trained
    status, out, _ = run(
        [
            "train",
            "--train",
            "D_1",
            "--size",
            "1-2-16",
            "--steps",
            "60",
            "--digits",
            "1-3",
            "--json",
            "--test-domain",
            "D_ab",
        ],
        capsys,
    )
    found = json.loads(out)
    assert status == 0
    assert found["run"] == before["run"]
    assert found["seconds"] == before["seconds"]
    assert [row["domain"] for row in found["rows"]] == ["D_ab1", "D_ab2", "D_ab3"]


def test_ask_lines_up_the_digits(trained, capsys):
    _, found = trained
    status, out, _ = run(["ask", found["run"][:8], "12+7"], capsys)
    assert status == 0
    assert "model" in out
    assert "19  truth" in out


@pytest.mark.parametrize("words", [["ask", "RUN", "12+7", "--json"], TRAIN])
def test_what_takes_long_shows_a_bar_and_prints_nothing_but_json(trained, capsys, monkeypatch, words):
    monkeypatch.delenv("ARITHLAB_QUIET", raising=False)
    monkeypatch.setattr("arithlab.training.waiting.SECONDS", 0.0)
    status, out, err = run([trained[1]["run"] if word == "RUN" else word for word in words], capsys)
    assert status == 0
    assert json.loads(out)["rows"]
    assert "0%|" in err


def test_ask_reads_a_file_and_ignores_answers(trained, capsys, tmp_path):
    _, found = trained
    file = tmp_path / "questions.txt"
    file.write_text("1+2\n12+7=5\n\n 3 + 4 = \n")
    status, out, _ = run(["ask", found["run"], "--examples", str(file), "--json"], capsys)
    rows = json.loads(out)["rows"]
    assert status == 0
    assert [row["question"] for row in rows] == ["1+2", "12+7", "3 + 4"]
    for row in rows:
        assert int(row["truth"]) == task("add").compute(*map(int, row["question"].split("+")))
        assert row["correct"] == (row["answer"] == row["truth"])


BAD = {
    "unknown task": ["predict", "--task", "mulitply"],
    "modulus 0": ["predict", "--task", "add mod 0"],
    "modulus 1": ["predict", "--task", "add mod 1"],
    "base 1": ["predict", "--task", "add base 1"],
    "base 37": ["predict", "--task", "add base 37"],
    "unknown encoding": ["predict", "--positions", "ropee"],
    "bad domain": ["predict", "--train", "D_0"],
    "bad lengths": ["predict", "--digits", "9-1"],
    "no command": [],
    "unknown option": ["predict", "--tsak", "add"],
    "heads do not divide the width": ["train", "--size", "2-3-64", "--steps", "1"],
    "operands do not fit the format": ["train", "--format", "padded 3", "--steps", "1"],
    "zero steps": ["train", "--steps", "0"],
    "negative seed": ["train", "--seed", "-1", "--steps", "1"],
    "unknown device": ["train", "--device", "abacus", "--steps", "1", "--train", "D_1", "--size", "1-1-8"],
    "missing run": ["ask", "0123456789ab", "1+1"],
    "foreign folder": ["ask", ".", "1+1"],
    "question without sign": ["ask", "RUN", "11"],
    "negative number": ["ask", "RUN", "-1+1"],
    "Unicode digits": ["ask", "RUN", "\u0661+\u0662"],
    "100,000 digits": ["ask", "RUN", "9" * 100_000 + "+1"],
    "digits beyond the format": ["ask", "RUN", "12345678901+1"],
    "no question": ["ask", "RUN"],
    "missing file": ["ask", "RUN", "--examples", "nowhere.txt"],
    "unknown notebook": ["run", "77_nothing"],
    "missing notebook file": ["run", "nothing.ipynb"],
    "misspelt parameter": ["run", "02", "-p", "sede", "7"],
    "ill-typed parameter": ["run", "02", "-p", "SEED", "abc"],
    "hostile parameter": ["run", "02", "-p", "SEED\nimport os", "1"],
}


@pytest.mark.parametrize("words", BAD.values(), ids=BAD.keys())
def test_bad_input_gets_one_sentence_status_2_and_writes_nothing(words, trained, capsys, tmp_path, monkeypatch):
    folder, found = trained
    words = [found["run"] if word == "RUN" else word for word in words]
    if found["run"] not in words:
        monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path / "untouched"))
    before = sorted(folder.rglob("*"))
    status, out, err = run(words, capsys)
    assert status == 2
    assert out == ""
    assert err.startswith("arithlab: ")
    assert len(err.splitlines()) == 1
    assert len(err) < 600
    assert "Traceback" not in err
    assert sorted(folder.rglob("*")) == before
    assert not [p for p in (tmp_path / "untouched").rglob("*") if p.is_file() and p.suffix != ".lock"]


def test_interruption_ends_with_130(monkeypatch, capsys):
    def stop(*anything):
        raise KeyboardInterrupt

    monkeypatch.setattr("arithlab.cli.predict", stop)
    assert main(["predict"]) == 130


def test_the_commands_are_these_and_no_others():
    subcommands = next(a for a in _parser()._actions if hasattr(a, "choices") and a.choices)
    names = ["run", "train", "in-context", "ask", "predict", "sweep", "ledger", "export", "doctor"]
    assert list(subcommands.choices) == names
    for name in names:
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0


def test_doctor_finds_everything_the_tests_run_with(capsys, out):
    status, printed, _ = run(["doctor", "--json"], capsys)
    found = json.loads(printed)
    assert status == 0
    assert all(package["ok"] for package in found["packages"])
    assert {"torch", "plotly", "numpy"} <= {package["name"] for package in found["packages"]}
    assert found["machine"]["packages come from"] == sys.prefix
    assert "jupyter comes from" in found["machine"]


def test_a_real_interrupt_of_train_ends_with_130_and_a_checkpoint(out):
    words = [
        Path(sys.executable).with_name("arithlab"),
        "train",
        "--train",
        "D_1",
        "--size",
        "1-2-16",
        "--steps",
        "100000",
    ]
    process = subprocess.Popen([*words, "--digits", "1-3"], stderr=subprocess.PIPE, text=True, env=os.environ)
    for _ in range(600):
        time.sleep(0.1)
        if list(out.glob("runs/*.holder")):
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: stopped at step" in said
    assert "Traceback" not in said
    assert list(out.glob("runs/*/checkpoints/*.safetensors"))
