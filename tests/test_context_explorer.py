"""Figures and the widget of tasks in context: what they say is what the tables hold."""

import asyncio

import numpy as np
import pandas as pd
import pytest
from training_fixtures import CONTEXT

from arithlab.inspection import circles, in_context
from arithlab.notebook import circle_plots, context_plots
from arithlab.notebook.context_explorer import ContextExplorer
from arithlab.training import shots
from arithlab.training.fit import train

pytest_plugins = ["training_fixtures"]


def words(figure):
    return figure.layout.meta["alt"]


def test_a_phase_diagram_has_a_mark_for_every_run():
    names = [*shots.PHASES.values(), shots.NOTHING]
    rows = [
        {"tasks": 8 * (1 + k % 2), "alpha": 0.5, "seed": k, "phase": names[k % 5]}
        | {f"{when}_{which}": k / 10 for which in shots.SETS for when in ("best", "exact_match")}
        for k in range(7)
    ]
    figure = context_plots.phase_diagram(pd.DataFrame(rows))
    assert sum(len(trace.x) for trace in figure.data) == 7
    assert len({(x, trace.y[k]) for trace in figure.data for k, x in enumerate(trace.x)}) == 7  # none hides another
    assert "o.o.d. generalization: 1 at 8 tasks and alpha 0.5, 1 at 16 tasks and alpha 0.5" in words(figure)


def test_curves_say_where_they_begin_and_end():
    figure = context_plots.by_shots({"model": [0.25, 0.5], "x (solver)": [0.2, 1.0]}, p=5, title="T")
    assert "model: 25 % at 0, 50 % at 1 examples before the question" in words(figure)
    assert figure.data[1].line.dash == "dash"


def test_every_figure_of_a_run_says_what_it_shows(learner):
    table = shots.stages(learner)
    assert f"at most {100 * table['ood test'].max():.0f} %" in words(context_plots.stages({"run": table}))
    kinds = shots.algorithms(learner, n=50)
    assert "a multiple of one example" in words(context_plots.kinds({"new tasks": kinds}))
    exact = in_context.exact_belief(5, [(1, 0, 2), (0, 1, 3)])
    said = words(context_plots.beliefs({"exact": exact, "nothing": np.zeros((5, 5))}))
    assert "exact: 1.00 for a = 2, b = 3; nothing: no task agrees" in said
    grid = in_context.shot_grid(learner, (1, 2), [1, 3])
    right = int(grid[grid.shots == 1].right.sum())
    assert f"after 1 examples: {25 - right} wrong" in words(context_plots.shot_grids(grid))
    head = circles.head_components(learner, 0, 0)
    figure = circle_plots.circles({"head": head})
    assert len(figure.data[0].x) == 16  # no logarithm of 0
    assert f"{100 * sum(head.attrs['shares'][:2]):.0f} % of the variance" in words(figure)


def test_figures_of_what_is_held_say_what_the_matrices_hold(learner):
    matrix = circles.similarity(learner, 0)
    figure = circle_plots.similarities({"trained": matrix})
    assert f"more alike by {circles.ratio_score(matrix, 5):.2f}" in words(figure)
    assert figure.layout.xaxis.ticktext[-1] == "0 in it"
    values = circles.activations(learner, 0)
    figure = circle_plots.neurons(values, most=3)
    chosen = np.argsort(values.var((0, 1)))[::-1][:3]
    for panel, neuron in zip(figure.data, chosen, strict=True):
        for i, x in enumerate(panel.x):
            for j, y in enumerate(panel.y):
                assert panel.z[j][i] == values[int(x), int(y), neuron]
    assert list(figure.data[0].x) == ["1", "3", "4", "2", "0"]  # powers of 3, and 0 last
    assert f"neuron {chosen[0]}: up to {values[:, :, chosen[0]].max():.1f}" in words(figure)


@pytest.fixture
def explorer(learner, zoo, monkeypatch):
    monkeypatch.setenv("ARITHLAB_OUT", str(zoo))
    return ContextExplorer(CONTEXT)


def test_the_model_answers_what_stands_in_the_box(explorer, learner):
    explorer.examples.value, explorer.question.value = "1 0 2\n0, 1, 3\n", "1 1"
    table = in_context.answer_examples(learner, [(1, 0, 2), (0, 1, 3)], (1, 1))
    assert f"The model answers {table.model.idxmax()}" in explorer.answer.value
    assert "the examples leave 1 of 25 tasks, all of which answer 0" in explorer.answer.value
    explorer.examples.value = "1 0 2\n1 0 3"
    assert "no task agrees with all the examples" in explorer.answer.value
    explorer.best.value = True
    assert explorer.figure.outputs


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"question": "1"}, "write 2 whole numbers"),
        ({"examples": "1 2\n"}, "write 3 whole numbers"),
        ({"examples": "1 2 5"}, "from 0 to 4"),
        ({"tasks": 26}, "p^2 tasks"),
        ({"alpha": 0.0}, "leaves no inputs"),
    ],
)
def test_bad_input_is_told_and_mended(explorer, change, hint):
    (name, value), *_ = change.items()
    before = getattr(explorer, name).value
    getattr(explorer, name).value = value
    assert hint in explorer.status.value
    assert "role='status'" in explorer.status.value
    getattr(explorer, name).value = before
    assert hint not in explorer.status.value
    assert "The model answers" in explorer.answer.value


def test_a_model_that_is_not_there_is_trained_and_then_asked(out):
    brief = CONTEXT.with_(steps=5)
    box = ContextExplorer(brief)
    assert "Not trained yet" in box.status.value
    assert not box.train_button.disabled

    async def press():
        box.start()
        box.start()  # twice is once
        await box.training

    asyncio.run(press())
    assert "The model answers" in box.answer.value
    assert box.train_button.disabled


def test_stop_keeps_what_is_done(out):
    box = ContextExplorer(CONTEXT)

    async def press():
        box.start()
        await asyncio.sleep(0)
        box.stop()
        await box.training

    asyncio.run(press())
    assert "Stopped. Train goes on from here." in box.status.value
    assert not box.train_button.disabled
    train(CONTEXT)  # goes on
    box.refresh()
    assert "The model answers" in box.answer.value
