"""Runs on disk: what is damaged is noticed, what is whole is found, and no file is ever half written."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as save_tensors
from training_fixtures import BRIEF, advance, result

from arithlab import evaluate, find_run, list_runs, train
from arithlab.errors import ArithlabError, CheckpointCorrupt, RunMissing
from arithlab.model.transformer import Probe
from arithlab.training import runs
from arithlab.training.fit import fit
from arithlab.training.in_context import InContextExperiment
from arithlab.training.runs import Run, output_folder, read_tensors, reference_folder, write_file, write_tensors
from arithlab.training.shots import follow

pytest_plugins = ["training_fixtures"]


class Bomb:
    """Unpickling it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0b100
    path.write_bytes(data)


DAMAGE = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a bit of the header": lambda path: flip(path, 20),
    "a bit of a weight": lambda path: flip(path, -3),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Bomb(path.with_name("exploded")))),
    "gone": lambda path: path.unlink(),
    "no sha256": lambda path: path.with_suffix(".sha256").unlink(),
    "a bit of the sha256": lambda path: flip(path.with_suffix(".sha256"), 7),
    "sha256 of no text": lambda path: path.with_suffix(".sha256").write_bytes(b"\xff\xfe" * 32),
}
EVERY_DAMAGE = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)


def test_tensors_and_scalars_come_back_as_they_were(tmp_path):
    tensors = {"a": torch.randn(3, 4).T, "b": torch.arange(5, dtype=torch.uint8), "c": torch.tensor(float("nan"))}
    write_tensors(tmp_path / "x.safetensors", tensors, {"step": 3, "seconds": 0.1})
    back, scalars = read_tensors(tmp_path / "x.safetensors")
    assert scalars == {"step": 3, "seconds": 0.1}
    assert {k: v.dtype for k, v in back.items()} == {k: v.dtype for k, v in tensors.items()}
    assert all(torch.equal(back[k].nan_to_num(7), v.nan_to_num(7)) for k, v in tensors.items())


@EVERY_DAMAGE
def test_damage_to_a_checkpoint_is_noticed(damage, tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.randn(40)}, {"step": 3})
    damage(path)
    with pytest.raises(CheckpointCorrupt, match=r"x\.safetensors"):
        read_tensors(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [pickle.dumps({"a": 1}), b"", b"{}", save_tensors({"a": torch.ones(2)})])
def test_a_foreign_file_is_no_checkpoint_even_with_its_right_sha256(content, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(content)
    (tmp_path / "x.sha256").write_text(runs.hashlib.sha256(content).hexdigest())
    with pytest.raises(CheckpointCorrupt, match=r"no checkpoint of this package|is a pickle"):
        read_tensors(tmp_path / "x.safetensors")


@EVERY_DAMAGE
def test_training_goes_on_from_the_checkpoint_before_a_damaged_one(damage, out, brief, capsys):
    advance(BRIEF, 21)
    newest, before = Run.of(BRIEF).checkpoints()
    assert (newest.stem, before.stem) == ("step-000000021", "step-000000020")
    damage(newest)
    progress = fit(BRIEF)
    assert next(progress).step == 21
    progress.close()
    assert (newest.name in capsys.readouterr().err) == (damage is not DAMAGE["gone"])
    assert result(train(BRIEF)) == result(brief)


def test_training_starts_anew_where_every_checkpoint_is_damaged(out, brief):
    advance(BRIEF, 21)
    for path in Run.of(BRIEF).checkpoints():
        DAMAGE["zeros"](path)
    assert result(train(BRIEF)) == result(brief)


def test_a_checkpoint_of_another_experiment_is_not_taken(out, brief):
    other = BRIEF.with_(seed=5)
    advance(other, 10)
    shutil.copytree(Run.of(other).path, Run.of(BRIEF).path)
    assert result(train(BRIEF)) == result(brief)


def test_a_finished_run_keeps_these_files_only(brief):
    names = {path.name for path in brief.path.rglob("*") if path.is_file()}
    assert names == {
        "config.json", "metrics.jsonl", "summary.json", "manifest.json", "final.safetensors", "final.sha256"
    }  # fmt: skip
    assert {path.suffix for path in brief.path.parent.iterdir() if path.is_file()} <= {".lock"}


def test_at_most_two_checkpoints_are_kept(out):
    advance(BRIEF, 13)
    names = sorted(path.name for path in (Run.of(BRIEF).path / "checkpoints").iterdir())
    assert names == [f"step-0000000{step}.{kind}" for step in (12, 13) for kind in ("safetensors", "sha256")]


@pytest.fixture
def mine(out, brief):
    """A finished run of the test's own."""
    shutil.copytree(brief.path, out / "runs" / brief.id)
    assert Run.of(BRIEF).finished
    return Run.of(BRIEF)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "final.safetensors", "summary.json", "manifest.json"])
@pytest.mark.parametrize("change", ["altered", "emptied", "gone"])
def test_a_run_with_a_changed_file_is_not_finished_and_can_be_trained_again(name, change, mine, brief):
    path = mine.path / name
    if change == "altered":
        flip(path, path.stat().st_size // 2)
    elif change == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()
    assert not Run.of(BRIEF).finished
    with pytest.raises(RunMissing):
        find_run(BRIEF.id)
    with pytest.raises(RunMissing):
        _ = mine.summary
    assert result(train(BRIEF)) == result(brief)
    assert find_run(BRIEF.id).finished


@pytest.mark.parametrize(
    "manifest", ["[]", "7", "null", "{}", '{"sha256": []}', '{"sha256": {}}', '{"sha256": {"x": 1}}', "{"]
)
def test_a_strange_manifest_makes_no_finished_run(manifest, mine):
    (mine.path / "manifest.json").write_text(manifest)
    assert not mine.finished


def test_a_run_copied_under_the_id_of_another_is_not_taken_for_it(mine):
    other = BRIEF.with_(seed=9)
    shutil.copytree(mine.path, mine.path.with_name(other.id))
    assert not Run.of(other).finished


def test_a_run_is_found_by_id_by_its_beginning_and_by_folder(mine):
    for text in (mine.id, mine.id[:5], mine.path, str(mine.path)):
        assert find_run(text).experiment == BRIEF
    assert [run.id for run in list_runs()] == [mine.id]


def test_a_recorded_run_is_found_too_and_comes_first(mine):
    shutil.copytree(mine.path, reference_folder() / mine.id)
    assert find_run(mine.id).path == Run.of(BRIEF).path == reference_folder() / mine.id


def test_a_damaged_recorded_run_does_not_hide_a_whole_one(mine):
    shutil.copytree(mine.path, reference_folder() / mine.id)
    (reference_folder() / mine.id / "metrics.jsonl").write_text("")
    assert find_run(mine.id).path == Run.of(BRIEF).path == mine.path
    assert [run.path for run in list_runs()] == [mine.path]


def test_the_beginning_of_two_ids_is_refused(mine):
    shutil.copytree(mine.path, mine.path.with_name(mine.id[:4] + "00000000"))
    with pytest.raises(RunMissing, match="2 runs begin"):
        find_run(mine.id[:4])


@pytest.mark.parametrize("text", ["0123456789ab", "no such run", "", "x" * 5_000, "a\0b", "0", "/", "*", "../*"])
def test_what_names_no_run_is_refused(text, out):
    with pytest.raises(RunMissing):
        find_run(text)


@pytest.mark.parametrize("config", [None, "", "[]", "{}", '{"task": "cook"}', '{"tusk": "add"}', "\xff"])
def test_a_foreign_folder_is_refused(config, out):
    if config is not None:
        (out / "config.json").write_text(config, encoding="latin-1")
    with pytest.raises(RunMissing):
        find_run(out)


def test_a_run_that_is_not_finished_is_refused_and_has_no_summary(out):
    advance(BRIEF, 3)
    assert Run.of(BRIEF).metrics.step.tolist() == [2, 2]
    with pytest.raises(RunMissing, match="not finished"):
        find_run(BRIEF.id)
    with pytest.raises(RunMissing, match="not finished"):
        _ = Run.of(BRIEF).summary
    with pytest.raises(CheckpointCorrupt):
        _ = Run.of(BRIEF).model
    assert list_runs() == []


def test_a_run_not_begun_has_an_empty_training_curve(out):
    metrics = Run.of(BRIEF).metrics
    assert len(metrics) == 0
    assert list(metrics) == ["step", "loss", "digits", "exact_match", "agreement"]


def test_the_summary_tells_size_steps_and_versions(brief):
    assert brief.summary["parameters"] == BRIEF.model().parameter_count()
    assert brief.summary["steps"] == 40
    assert brief.summary["versions"]["torch"] == torch.__version__
    assert json.loads((brief.path / "config.json").read_text()) == BRIEF.to_json()


@pytest.mark.parametrize("failing", ["os.fsync", "pathlib.Path.replace"])
def test_a_file_that_cannot_be_written_stays_as_it_was(failing, tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_file(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(failing, full)
    with pytest.raises(ArithlabError, match="No space left on device"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_training_on_a_full_disk_keeps_the_last_checkpoint(out, brief, monkeypatch):
    advance(BRIEF, 10)
    kept = [path.read_bytes() for path in Run.of(BRIEF).checkpoints()]

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(ArithlabError, match="No space left on device"):
            train(BRIEF)
    assert [path.read_bytes() for path in Run.of(BRIEF).checkpoints()] == kept
    assert result(train(BRIEF)) == result(brief)


def test_results_go_to_the_checkout_around_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("ARITHLAB_OUT", raising=False)
    for name in ("notebooks/deep", "outputs"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notebooks/deep")
    assert output_folder() == tmp_path / "outputs"
    monkeypatch.setenv("ARITHLAB_OUT", "elsewhere")
    assert output_folder() == tmp_path / "notebooks/deep/elsewhere"


REFERENCE = sorted((Path(__file__).parent.parent / "outputs" / "reference").glob("*/config.json"))


@pytest.mark.parametrize("config", REFERENCE, ids=lambda path: path.parent.name)
def test_a_recorded_run_is_whole_named_after_its_experiment_and_found_from_anywhere(config, monkeypatch, tmp_path):
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path))
    monkeypatch.chdir(config.parents[3] / "notebooks")
    run = find_run(config.parent.name)
    assert run.path == config.parent
    assert Run.of(run.experiment).path == config.parent
    metrics = run.metrics
    assert metrics.step.max() == run.experiment.steps
    if run.has_weights:  # and they still do with this code what they did when they were trained
        assert run.summary["parameters"] == sum(p.numel() for p in run.model.parameters())
        if isinstance(run.experiment, InContextExperiment):
            for row in follow(run.experiment)(run.model):
                last = metrics[(metrics.step == run.experiment.steps) & (metrics.set == row["set"])].exact_match.item()
                assert row["exact_match"] == pytest.approx(last, abs=0.02)
            return
        digits = max(set(metrics.digits) & set(range(1, run.experiment.train_domain.digits + 1)))
        before = metrics[(metrics.step == metrics.step.max()) & (metrics.digits == digits)].exact_match.item()
        now = evaluate(run, [digits], n=50, probe=Probe(attention=None)).exact_match[0]
        assert now == pytest.approx(before, abs=0.1)


def test_recorded_runs_stay_small():
    assert REFERENCE
    assert sum(f.stat().st_size for f in REFERENCE[0].parents[1].rglob("*") if f.is_file()) < 40_000_000
