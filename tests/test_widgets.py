"""Widgets without a browser: state before and after a change, training in slices, errors that are seen."""

import asyncio

import pytest

import arithlab as al
from arithlab import Experiment, LengthExplorer, evaluate
from arithlab.errors import ArithlabError
from arithlab.model.transformer import Probe
from arithlab.notebook.widgets import TaskPicker
from arithlab.training.estimate import duration
from arithlab.training.runs import Run

pytest_plugins = ["training_fixtures"]


@pytest.fixture(autouse=True)
def out(tmp_path, monkeypatch):
    monkeypatch.setenv("ARITHLAB_OUT", str(tmp_path))
    return tmp_path


@pytest.fixture
def picker(monkeypatch):
    monkeypatch.setattr("arithlab.notebook.widgets.seconds_per_step", lambda experiment: 0.06)
    return TaskPicker(digits=1, positions=("learned",), minutes=0.05)


def test_shows_example_prediction_and_time_before_anything_is_trained(picker, out):
    assert "The model sees" in picker.preview.value
    assert "(a mod 10^1) + (b mod 10^1)" in picker.preview.value
    assert "about 3 s" in picker.preview.value
    assert "Nothing has been trained" in picker.status.value
    assert list(out.iterdir()) == []


def test_a_change_of_any_control_changes_the_preview(picker):
    for name, value in (
        ("operation", "mul"),
        ("modulus", 7),
        ("base", 3),
        ("digits", 2),
        ("positions", ("rope", "shaw")),
        ("seeds", 2),
    ):
        before = picker.preview.value
        getattr(picker, name).value = value
        assert picker.preview.value != before, name


def test_what_cannot_be_trained_says_so_and_disables_train(picker):
    picker.modulus.value = 1
    assert "modulus 1" in picker.status.value
    assert picker.train_button.disabled
    picker.modulus.value = 0
    assert not picker.train_button.disabled


def test_trains_on_the_event_loop_while_other_work_goes_on(picker):
    ticks = []

    async def both():
        picker.start()
        while picker.training is not None:
            ticks.append(picker.status.value)
            await asyncio.sleep(0.01)

    asyncio.run(both())
    assert len(picker.runs) == 1
    assert all(run.finished for run in picker.runs.values())
    assert len(ticks) >= 3
    assert any("step" in tick for tick in ticks)
    assert "Done" in picker.status.value
    assert "learned" in picker.results.value
    assert "application/vnd.plotly.v1+json" in picker.figure.outputs[0]["data"]


def test_stop_keeps_what_is_done_and_train_goes_on(picker):
    picker.minutes.value = 0.3

    async def start_then_stop():
        picker.start()
        while "step" not in picker.status.value:
            await asyncio.sleep(0.01)
        picker.stop()
        while picker.training is not None:
            await asyncio.sleep(0.01)

    asyncio.run(start_then_stop())
    assert "Stopped" in picker.status.value
    assert picker.runs == {}
    picker.minutes.value = 0.3
    asyncio.run(picker.train())
    assert len(picker.runs) == 1


def test_user_text_is_escaped(picker):
    run = al.train(al.Experiment(train="D_1", size="1-1-8", steps=1))
    box = al.AskBox(run, "1+1")
    box.question.value = "<script>alert(1)</script>"
    assert "<script>" not in box.answer.value
    assert "&lt;script&gt;" in box.answer.value


def test_ask_box_answers_and_explains():
    run = al.train(al.Experiment(train="D_1", size="1-1-8", steps=1))
    box = al.AskBox(run, "1+1")
    assert "2  truth" in box.answer.value
    box.question.value = "1234567890+1"
    assert "10 digits" in box.answer.value


def test_theory_explorer_follows_its_controls():
    explorer = al.TheoryExplorer(modulus=101, digits=4)
    assert "0.99 %" in explorer.words.value
    explorer.modulus.value = 100
    assert "100.00 %" in explorer.words.value
    explorer.base.value = 7
    assert "1.00 %" in explorer.words.value
    assert explorer.figure.outputs[0]["data"]["text/plain"].startswith("Predicted accuracy")


def test_every_control_has_a_label(picker):
    for control in (
        picker.operation,
        picker.modulus,
        picker.base,
        picker.digits,
        picker.size,
        picker.seeds,
        picker.minutes,
        picker.positions,
    ):
        assert control.description
        assert control.tooltip
    for button in (picker.train_button, picker.stop_button):
        assert button.description
        assert button.tooltip


def test_durations_are_words():
    assert [duration(s) for s in (3, 99, 120)] == ["3 s", "99 s", "2 min"]


def test_results_never_mix_two_tasks(picker):
    asyncio.run(picker.train())
    picker.base.value = 3
    picker.positions.value = ("rope",)
    asyncio.run(picker.train())
    assert {run.experiment.task for run in picker.runs.values()} == {"add base 3"}
    assert "learned" not in picker.results.value


def test_a_change_during_training_leaves_its_status_and_the_buttons_alone(picker):
    async def change_while_training():
        picker.start()
        while "step" not in picker.status.value:
            await asyncio.sleep(0.01)
        picker.base.value = 3
        assert "step" in picker.status.value
        assert picker.train_button.disabled
        while picker.training is not None:
            await asyncio.sleep(0.01)

    asyncio.run(change_while_training())
    assert {run.experiment.base for run in picker.runs.values()} == {10}


def test_the_length_explorer_tests_what_its_lists_say(padded):
    explorer = LengthExplorer({2: padded}, digits=2)
    assert "window all, temperature 1" in explorer.words.value
    assert "of 2 digits are right" in explorer.words.value
    wanted = evaluate(padded, [2], n=200, probe=Probe(attention=None))["exact_match"][0]
    assert f"{100 * wanted:.1f} %" in explorer.words.value
    explorer.temperature.value = 4.0
    hot = evaluate(padded, [2], n=200, probe=Probe(attention=None, temperature=4.0))["exact_match"][0]
    assert f"{100 * hot:.1f} %" in explorer.words.value
    explorer.window.value = 1
    near = evaluate(padded, [2], n=200, probe=Probe(attention=None, temperature=4.0, window=1))["exact_match"][0]
    assert f"{100 * near:.1f} %" in explorer.words.value
    assert len(explorer.tried) == 3  # every setting stays in the figure
    explorer.digits.value = 1000
    assert "allowed" in explorer.words.value or "places" in explorer.words.value  # too long for this format: said
    assert len(explorer.tried) == 3


def test_the_length_explorer_has_every_window_and_length_that_it_is_given(tmp_path):
    runs = {}
    for digits, positions in ((3, "clipped places window 5"), (4, "clipped places window 7"), (5, "rope")):
        e = Experiment(train=f"D_{digits}", format="aligned", positions=positions, size="1-1-8")
        runs[digits] = Run(tmp_path, e)
        runs[digits].__dict__["model"] = e.model().eval()
    explorer = LengthExplorer(runs, digits=7)
    assert (explorer.window.value, explorer.digits.value) == (5, 7)
    assert "window 5" in explorer.words.value
    assert "of 7 digits are right" in explorer.words.value
    assert [window for _, window in explorer.window.options] == [0, 1, 2, 3, 4, 5, 7, 8, 16, float("inf")]
    assert list(explorer.digits.options) == sorted(explorer.digits.options)


@pytest.mark.parametrize(("runs", "digits"), [({}, 3), ({3: None}, 0), ({3: None}, "7"), ({3: None}, 5_000_000)])
def test_the_length_explorer_says_what_it_cannot_show(runs, digits):
    with pytest.raises(ArithlabError, match=r"run|digits"):
        LengthExplorer(runs, digits=digits)


def test_a_fault_of_ours_is_seen_in_the_widget_and_raised(monkeypatch):
    box = al.TheoryExplorer()
    monkeypatch.setattr("arithlab.notebook.widgets.predict", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        box.modulus.value = 102
    assert "Stopped by an error: ZeroDivisionError: division by zero" in box.words.value
