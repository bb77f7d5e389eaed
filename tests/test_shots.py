"""In-context experiments from description to run: training, resuming, best weights, accuracy by shots, grids."""

import json

import numpy as np
import pytest
import torch
from training_fixtures import CONTEXT, advance, result

import arithlab as al
from arithlab.arithmetic.in_context import SETS, ratio_matching
from arithlab.errors import ArithlabError, ConfigError
from arithlab.model.positions import Layout
from arithlab.training import shots
from arithlab.training.experiment import Experiment
from arithlab.training.fit import fit, train
from arithlab.training.grids import grid, results
from arithlab.training.in_context import InContextExperiment, read_experiment
from arithlab.training.runs import BEST, Run, find_run

pytest_plugins = ["training_fixtures"]


def test_a_description_comes_back_from_json_and_no_two_kinds_share_an_id():
    assert read_experiment(json.loads(json.dumps(CONTEXT.to_json()))) == CONTEXT
    assert read_experiment(Experiment().to_json()) == Experiment()
    assert InContextExperiment().id != Experiment().id
    assert CONTEXT.id == CONTEXT.with_().id != CONTEXT.with_(shared=True).id
    faithful = InContextExperiment.faithful()
    parameters = sum(p.numel() for p in faithful.model().parameters())
    # 12 C^2 per block, the tied embedding of 29 numbers, 9 scales of LayerNorms
    assert parameters == 4 * 12 * 512**2 + 29 * 512 + 9 * 512
    assert (faithful.sequence, faithful.shape.tied, faithful.shape.activation) == (96, True, "relu")


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"p": 1}, "from 2 to 256"),
        ({"tasks": 26, "p": 5}, "p^2 tasks"),
        ({"alpha": 1.0}, "leaves no inputs"),
        ({"alpha": True}, "alpha True"),
        ({"shots": -1}, "shots -1"),
        ({"shared": 1}, "shared 1"),
        ({"rule": "square"}, "rectangular"),
        ({"positions": "nope"}, "unknown positions"),
    ],
)
def test_what_cannot_be_trained_is_told_in_a_sentence(changes, hint):
    with pytest.raises(ConfigError) as told:
        CONTEXT.with_(**changes)
    assert hint in str(told.value)


def test_more_shots_than_learned_positions_are_refused():
    learned = CONTEXT.with_(positions="learned")
    learned.check_shots(6)
    with pytest.raises(ArithlabError, match="7 shots need 23 positions and this model has 20"):
        learned.check_shots(7)
    CONTEXT.check_shots(500)


def test_training_logs_every_set_and_keeps_the_best_weights(learner):
    assert set(learner.metrics.set) == {"id train", "id test", "ood train", "ood test"}
    curve = shots.stages(learner)
    best = curve.loc[(curve["ood test"] + curve["ood train"]).idxmax()]
    assert learner.best_step == best.step
    assert find_run(learner.path).finished
    assert BEST in learner.sha256
    for model, step in ((learner.best_model, learner.best_step), (learner.model, CONTEXT.steps)):
        logged = learner.metrics[learner.metrics.step == step].set_index("set")
        for row in shots.follow(CONTEXT)(model):
            assert row["exact_match"] == pytest.approx(logged.exact_match[row["set"]], abs=0.01)
            assert row["by_shots"] == pytest.approx(logged.by_shots[row["set"]], abs=0.02)


def test_an_interrupted_training_ends_in_the_same_bytes(learner, out):
    advance(CONTEXT, 15)
    advance(CONTEXT, 9)
    again = train(CONTEXT)
    assert result(again) == result(learner)
    assert (again.path / BEST).read_bytes() == (learner.path / BEST).read_bytes()


def test_a_run_with_damaged_best_weights_is_not_finished(out):
    run = train(CONTEXT.with_(steps=4))
    (run.path / BEST).write_bytes((run.path / BEST).read_bytes()[:-1] + b"x")
    assert not Run(run.path, run.experiment).finished


def test_seeds_trained_together_learn_what_they_learn_alone(out):
    brief = CONTEXT.with_(steps=6)
    for _ in fit(brief, seeds=(0, 1)):
        pass
    together = [Run.of(brief.with_(seed=seed)).model.embedding.weight for seed in (0, 1)]
    for seed, weights in enumerate(together):
        (out / "runs").rename(out / f"before{seed}")
        alone = train(brief.with_(seed=seed)).model.embedding.weight
        assert torch.allclose(weights, alone, atol=1e-4)


def test_accuracy_by_shots_is_what_the_model_says_one_question_at_a_time(learner):
    table = shots.by_shots(learner, "id test", n=20)
    made = CONTEXT.made.test("id test", 20, CONTEXT.seed)
    hits = np.zeros((20, 7))
    for row in range(20):
        for k in range(7):
            upto = torch.from_numpy(made.ids[row : row + 1, : 3 * k + 2]).long()
            with torch.inference_mode():
                said = learner.model(upto, layout=Layout.of(made, "cpu"))[0, -1].argmax().item()
            hits[row, k] = said == made.ids[row, 3 * k + 2]
    assert table.exact_match.to_list() == pytest.approx(hits.mean(0).tolist())
    assert table.shots.to_list() == list(range(7))


def test_phases_go_by_the_hardest_set_that_is_learned():
    scores, ceiling = {"id train": 1.0, "id test": 0.8, "ood train": 0.8, "ood test": 0.61}, dict.fromkeys(SETS, 0.8)
    for which, name in shots.PHASES.items():
        assert shots.phase(scores, ceiling) == name
        del scores[which]
    assert shots.phase({}, ceiling) == shots.NOTHING
    assert shots.phase({"id train": 0.59}, ceiling) == shots.NOTHING
    assert shots.phase({"id train": 0.4}, {"id train": 0.2}) == shots.NOTHING  # where ratio matching only guesses
    assert shots.phase({"id train": 0.4, "ood test": 0.9}, ceiling) == shots.NOTHING  # luck with few questions


def test_the_ceilings_are_those_of_ratio_matching():
    found = shots.ceilings(CONTEXT)
    assert set(found) == set(SETS)
    x, y, z = CONTEXT.made.test("id test", 1_000, 0).ids.reshape(1_000, -1, 3).astype(int).transpose(2, 0, 1)
    said = ratio_matching(x, y, z, 5)
    assert found["id test"] == pytest.approx(np.where(said >= 0, said == z[:, -1], 0.2).mean())
    assert 0.6 < found["id train"] < 0.95


def test_a_grid_of_in_context_runs_has_a_row_for_each(out, tmp_path):
    file = tmp_path / "small.toml"
    file.write_text('[common]\np = 5\nalpha = 0.6\nshots = 6\nsize = "1-2-16"\nsteps = 3\ntasks = [8, 25]\n')
    experiments = grid({"common": {"p": 5, "tasks": [8, 25], "alpha": 0.6}}).experiments
    assert [e.tasks for e in experiments] == [8, 25]
    table = al.sweep(file, workers=1)
    assert table.state.to_list() == ["finished"] * 2
    assert table.tasks.to_list() == [8, 25]
    assert table["best_ood test"].notna().to_list() == [True, False]  # no task is left to be out of distribution
    assert set(table.phase) <= {*shots.PHASES.values(), shots.NOTHING}
    assert results(file).equals(table)
    assert not list(out.rglob("failed.log"))


def test_what_asks_for_sums_says_what_the_run_learned(learner):
    for ask in (al.evaluate, al.length_map, lambda run: al.answer(run, ["1+2"]), lambda run: al.mistakes(run, "D_2")):
        with pytest.raises(ArithlabError, match="continues sequences of examples"):
            ask(learner)
    with pytest.raises(ArithlabError, match="not tasks in context"):
        shots.by_shots(Run(learner.path, Experiment()))
    with pytest.raises(ArithlabError, match="test set"):
        shots.by_shots(learner, "ood")
    with pytest.raises(AttributeError):
        _ = CONTEXT.nothing_of_the_kind
