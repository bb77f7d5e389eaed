"""In-context models opened: beliefs and algorithms against models whose answers are known, planted circles."""

import numpy as np
import pandas as pd
import pytest
import torch
from training_fixtures import CONTEXT

import arithlab as al
from arithlab.arithmetic.in_context import SOLVERS, logarithms
from arithlab.errors import ArithlabError
from arithlab.inspection import circles, in_context
from arithlab.notebook import context_plots
from arithlab.training import shots
from arithlab.training.runs import Run
from arithlab.training.shots import right

pytest_plugins = ["training_fixtures"]
P = CONTEXT.p


def playing(solver):
    """Logits of a model that answers as a solver does, and 0 where the solver does not know."""

    def logits(model, tokens, probe=None):
        x, y, z = tokens.ids.reshape(len(tokens.ids), -1, 3).astype(int).transpose(2, 0, 1)
        said = [solver(x[:, : k + 1], y[:, : k + 1], z[:, : k + 1], P) for k in range(x.shape[1])]
        return torch.nn.functional.one_hot(torch.tensor(np.stack(said, 1)).clamp(min=0), P).float() * 50

    return logits


def test_a_belief_that_is_a_mixture_of_tasks_is_read_off_exactly(learner, monkeypatch):
    weights = np.random.default_rng(0).dirichlet(np.ones(P * P)).reshape(P, P)

    def mixture(run, examples, questions, best, probe=None):
        a, b = np.indices((P, P))
        z = (a * questions[:, 0, None, None] + b * questions[:, 1, None, None]) % P
        return np.stack([(weights * (z == value)).sum((1, 2)) for value in range(P)], 1)

    monkeypatch.setattr(in_context, "_asked", mixture)
    assert np.allclose(in_context.belief(learner, []), weights)


def test_beliefs_of_any_model_sum_to_one(learner):
    assert in_context.belief(learner, [(1, 2, 3), (0, 4, 4)]).sum() == pytest.approx(1)
    assert in_context.exact_belief(P, [(1, 0, 2), (0, 1, 3)])[2, 3] == 1
    assert in_context.exact_belief(P, [(1, 0, 2), (1, 0, 3)]).sum() == 0


@pytest.mark.parametrize("name", SOLVERS)
def test_a_model_that_plays_a_solver_is_told_by_its_answers(learner, monkeypatch, name):
    monkeypatch.setattr(shots, "logits", playing(SOLVERS[name]))
    table = shots.algorithms(learner, "id train", n=300)
    assert table.groupby("shots").share.sum().to_numpy() == pytest.approx(np.ones(7))
    at_end = table[table.shots == 6].set_index("kind").exact_match
    assert at_end["ratio"] == 1
    assert at_end["regression"] == 1 if name == "modular regression" else at_end["regression"] < 0.4


def test_answers_stand_beside_the_exact_posterior(learner):
    examples = [(1, 0, 2), (0, 1, 3), (1, 1, 0)]
    table = in_context.answer_examples(learner, examples, (2, 2))
    assert table.model.sum() == pytest.approx(1)
    assert table.exact.to_list() == [1, 0, 0, 0, 0]  # 2 * 2 + 3 * 2 = 10
    nothing_known = in_context.answer_examples(learner, [], (2, 2)).exact
    assert nothing_known.to_list() == pytest.approx([0.2] * 5)


def test_the_grid_says_what_each_solver_knows(learner):
    table = in_context.shot_grid(learner, (1, 2), (0, 1, 2))
    assert len(table) == 3 * P * P
    one = table[table.shots == 1]
    (x, y, _), *_ = in_context.examples_of(CONTEXT, (1, 2), 1)
    for row in one.itertuples():
        assert row.ratio == any((c * x - row.x) % P == 0 and (c * y - row.y) % P == 0 for c in range(P))
        assert row.regression >= row.ratio


def test_noise_in_no_label_changes_nothing(learner):
    table = shots.label_noise(learner, "id train", n=100)
    hits, _ = right(learner.model, CONTEXT.made.test("id train", 100, 0))
    assert table.exact_match[0] == pytest.approx(hits[:, -1].mean())
    assert table.corrupted.to_list() == list(range(7))


def test_every_label_wrong_deceives_an_exact_solver(learner, monkeypatch):
    monkeypatch.setattr(shots, "logits", playing(SOLVERS["ratio matching"]))
    table = shots.label_noise(learner, "id train", n=200)
    assert table.exact_match.iloc[-1] < 0.4 < table.exact_match.iloc[0]


def test_tasks_are_judged_one_by_one(learner):
    table = in_context.task_accuracy(learner, "ood test", n=3)
    assert len(table) == 25 - 8
    assert not table.pre_trained.any()
    assert table.exact_match.between(0, 1).all()


def test_a_recording_holds_what_the_model_computes(learner):
    questions = np.array([[1, 2], [3, 4]])
    kept = in_context.recording(learner, [(1, 2, 3)], questions)
    assert kept["attention", 0].shape == (2, 2, 5, 5)
    stream = kept["resid_post", 0][:, -1]
    with torch.inference_mode():
        said = learner.model.head(learner.model.norm(stream)).softmax(-1)
    for row, question in zip(said, questions.tolist(), strict=True):
        expected = in_context.answer_examples(learner, [(1, 2, 3)], tuple(question)).model
        assert row.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_logarithms_turn_products_into_sums():
    for p in (3, 5, 7, 11, 29):
        log, root = logarithms(p)
        assert np.isnan(log[0])
        for x in range(1, p):
            assert pow(root, int(log[x]), p) == x
    with pytest.raises(ArithlabError, match="odd prime"):
        logarithms(9)


def test_components_are_of_what_the_head_adds(learner):
    table = circles.head_components(learner, 0, 1, shots=2)
    kept = in_context.recording(learner, in_context.examples_of(CONTEXT, (1, 2), 2), table[["x", "y"]].to_numpy())
    with torch.inference_mode():
        z = kept["z", 0].clone()
        z[:, 0] = 0  # the other head
        added = learner.model.blocks[0].attention.out(z.transpose(1, 2).flatten(2))[:, -2:].flatten(1)
    centred = (added - added.mean(0)).double().numpy()
    assert table.attrs["shares"][0] == pytest.approx((table.pc1**2).sum() / (centred**2).sum(), rel=1e-4)
    assert len(table) == P * P


def test_what_a_logarithm_explains_is_the_variance_between_its_groups():
    x, y = (side.ravel() for side in np.indices((P, P)))
    log, _ = logarithms(P)
    table = pd.DataFrame({"x": x, "y": y, "log_x": log[x], "log_y": log[y]})
    table["log_ratio"] = (table.log_y - table.log_x) % (P - 1)
    angle = table.log_x * np.pi / 2
    circle = table.assign(pc1=np.cos(angle), pc2=np.sin(angle))
    assert circles.explained(circle, "log_x") == pytest.approx(1)
    assert circles.explained(circle, "log_y") == circles.explained(circle, "log_ratio") == pytest.approx(0)


def test_similarity_groups_equal_ratios_where_they_are_planted():
    x, y = (side.ravel() for side in np.indices((P, P)))
    ratio = np.array([(b * pow(int(a), -1, P)) % P if a else P for a, b in zip(x, y, strict=True)])
    names = pd.MultiIndex.from_arrays([x, y], names=["x", "y"])
    planted = pd.DataFrame((ratio[:, None] == ratio).astype(float), names, names)
    assert circles.ratio_score(planted, P) == 1
    shuffled = pd.DataFrame(np.random.default_rng(0).permutation(planted.to_numpy()), names, names)
    assert abs(circles.ratio_score(shuffled, P)) < 0.2


def test_similarity_is_a_cosine_and_activations_are_those_of_the_pass(learner):
    table = circles.similarity(learner, 0, "x", shots=1)
    assert np.allclose(np.diag(table), 1)
    assert np.allclose(table, table.T)
    assert circles.activations(learner, 0, shots=1).shape == (P, P, 64)
    assert (circles.activations(learner, 0, shots=1) >= 0).all()  # ReLU


def test_neurons_are_explained_by_what_was_planted():
    log = {1: 0, 5: 1, 4: 2, 6: 3, 2: 4, 3: 5}  # powers of 5 mod 7
    values = np.full((7, 7, 2), 9.0)  # what stands at 0 does not count
    for x in log:
        for y in log:
            values[x, y] = [log[x] % 2 and log[y] % 2, log[x] % 2]
    assert circles.neurons_explained(values, 2)["both"] == pytest.approx(1)
    assert circles.neurons_explained(values, 3)["both"] == pytest.approx(0)
    for x in log:
        for y in log:
            values[x, y] = [(log[y] - log[x]) % 6, 0]
    assert circles.neurons_explained(values, 6)["ratio"] == pytest.approx(1)
    assert 0 < circles.neurons_explained(values, 3)["ratio"] < 1
    noise = np.random.default_rng(0).normal(size=(7, 7, 400))
    assert circles.neurons_explained(noise, 3)["both"] == pytest.approx(8 / 35, abs=0.03)  # by chance
    for q in (0, 4, True):
        with pytest.raises(ArithlabError, match="choose a divisor"):
            circles.neurons_explained(noise, q)


@pytest.mark.parametrize(
    ("ask", "hint"),
    [
        (lambda run: in_context.belief(run, [(1, 2)]), r"write \(x, y, z\)"),
        (lambda run: in_context.belief(run, [(1, 2, 5)]), "from 0 to 4"),
        (lambda run: in_context.answer_examples(run, [], (5, 0)), r"question \(5, 0\)"),
        (lambda run: in_context.shot_grid(run, (7, 0), [1]), r"task \(7, 0\)"),
        (lambda run: in_context.shot_grid(run, (1, 0), [9]), "9 examples: allowed are 0 to 6"),
        (lambda run: circles.head_components(run, 1, 0), "layers 0 to 0"),
        (lambda run: circles.head_components(run, 0, 2), "heads 0 to 1"),
        (lambda run: circles.similarity(run, 0, "z"), "x and y"),
        (lambda run: shots.algorithms(run, "ood"), "test set"),
        (lambda run: in_context.task_accuracy(run, "ood"), "test set"),
    ],
)
def test_what_cannot_be_asked_is_told(learner, ask, hint):
    with pytest.raises(ArithlabError, match=hint):
        ask(learner)


def test_a_composite_modulus_has_no_unique_belief(learner):
    composite = Run(learner.path, CONTEXT.with_(p=6))
    with pytest.raises(ArithlabError, match="no prime"):
        in_context.belief(composite, [])
    assert "not a prime" in composite.experiment.notice
    assert not CONTEXT.notice


def test_every_task_has_a_curve_over_training(tmp_path, monkeypatch):
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path))
    monkeypatch.setenv("ARITHLAB_QUIET", "1")
    experiment = al.InContextExperiment(p=3, tasks=4, shots=2, steps=3, batch=8, size="1-1-8", rule="random")
    stages = al.train_stages(experiment, [0, 3])
    table = in_context.task_curves(stages, n=5)
    assert sorted(table.step.unique()) == [0, 3]
    assert len(table) == 2 * 4
    assert table.pre_trained.all()
    figure = context_plots.task_curves(table)
    assert "at step 3" in figure.layout.meta["alt"]
