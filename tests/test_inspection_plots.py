"""Figures of what is inside: they draw what the tables say, and say it in words."""

import numpy as np
import pandas as pd
import pytest

import arithlab as al
from arithlab.arithmetic.tokens import ROLE
from arithlab.inspection.cuts import cut_parts, parts, temperatures
from arithlab.inspection.recording import held_out
from arithlab.model.transformer import shape_of
from arithlab.notebook import inspection_plots
from arithlab.training.runs import Run

pytest_plugins = ["training_fixtures"]
RUN = Run("nowhere", al.Experiment(train="D_2", format="padded 3"))


def tokens_table(value="restored"):
    """A table as of `carry_map`: every token of a two-digit sum, at two layers and two sites, each with a number."""
    questions = held_out(RUN, 2, 4)
    rows = [
        {"layer": layer, "site": site, **questions.about(token)}
        for layer in (0, 1)
        for site in ("resid_pre", "attn_out")
        for token in range(questions.ids.shape[1])
    ]
    table = pd.DataFrame(rows)
    return table.assign(**{value: np.linspace(0, 1, len(table))})


def test_tokens_stand_where_their_digits_stand_in_a_written_sum():
    table = tokens_table()
    figure = inspection_plots.lined_up(table, "restored", places=3, called="restored", title="x")
    assert len(figure.data) == 4
    panel = table[(table.layer == 0) & (table.site == "resid_pre")].set_index("label").restored
    first = figure.data[0]
    assert list(first.x) == ["2", "1", "0", "sign"]
    assert list(first.y) == ["a", "b", "c"]
    wanted = [["a₂", "a₁", "a₀", "+"], ["b₂", "b₁", "b₀", None], ["c₂", "c₁", "c₀", "="]]
    for line, names in zip(first.z, wanted, strict=True):
        for value, name in zip(line, names, strict=True):
            assert np.isnan(value) if name is None else value == pytest.approx(panel[name])
    assert "c₂ 1.00" in figure.layout.meta["alt"].split(";")[-1]


def test_every_token_of_a_layout_says_what_it_is():
    questions = held_out(RUN, 2, 4)
    labels = [questions.about(i)["label"] for i in range(questions.ids.shape[1])]
    assert labels == ["a₀", "a₁", "a₂", "+", "b₀", "b₁", "b₂", "=", "c₀", "c₁", "c₂"]
    assert questions.writer(0) == 7
    assert questions.tokens.role[0, questions.answer[3]] == ROLE["c"]


def test_cuts_are_rows_in_the_order_of_the_model(padded):
    figure = inspection_plots.cut_effects(cut_parts(padded, 2, n=20), title="x")
    names = ["layer 1, head 1", "layer 1, head 2", "layer 1, attention", "layer 1, MLP", "layer 1, whole"]
    assert list(figure.data[0].y)[:5] == names
    assert np.shape(figure.data[0].z) == (10, 4)
    assert "layer 2, MLP leaves at worst" in figure.layout.meta["alt"]
    assert len(parts(shape_of("3-2-8"))) == 3 * 5


def test_temperatures_are_columns_and_what_is_cut_is_told(padded):
    figure = inspection_plots.temperature_effects(temperatures(padded, 2, [4.0, 0.5], n=20), title="x")
    assert list(figure.data[0].x) == ["0.5", "4"]
    assert list(figure.data[0].y)[:3] == ["whole", "layer 1, head 1", "layer 1, head 2"]
    assert np.shape(figure.data[0].z) == (7, 2)
    assert "As trained, at temperature 1, 100 %; whole" in figure.layout.meta["alt"]


def test_contributions_show_no_minus_nought():
    known = (("mlp", "layer 1, MLP", -0.01), ("whole", "whole", 3.0))
    rows = [(part, name, place, value) for part, name, value in known for place in range(2)]
    table = pd.DataFrame(rows, columns=["part", "name", "place", "contribution"])
    figure = inspection_plots.contributions(table, places=2, title="x")
    assert figure.data[0].text[0][0] == "0.0"
    assert figure.data[0].zmin == -figure.data[0].zmax


def test_lens_spectra_and_progress_say_their_numbers():
    lens = pd.DataFrame({"layer": [-1, 0], "after": ["embedding", "layer 1"], "place": 0, "accuracy": [0.1, 1.0]})
    alt = inspection_plots.lens_grid(lens, places=2, title="x").layout.meta["alt"]
    assert alt == "x. embedding 10 % on average, after layer 1 100 % on average."
    spectrum = pd.DataFrame({"frequency": [1, 2], "share": [0.75, 0.25], "control": 0.5})
    figure = inspection_plots.spectra({"it": spectrum}, title="x")
    assert figure.layout.meta["alt"] == "x. it: 75 % at 1, 25 % at 2."
    assert [trace.type for trace in figure.data] == ["bar", "scatter"]
    table = pd.DataFrame({"step": [0, 50], "exact_match": [0.0, 0.75], "attention": [0.1, 0.2]})
    words = {"exact_match": "right", "attention": "looks"}
    alt = inspection_plots.progress_lines(table, words, title="x").layout.meta["alt"]
    assert alt == "x. right: from step 50 at least half; looks: never half."
