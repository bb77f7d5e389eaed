"""The browser of mistakes: what it shows is what the model answered, whatever is chosen, and bad input is told."""

import pytest

import arithlab as al
from arithlab.errors import ArithlabError
from arithlab.inspection.mistakes import accuracy_by

pytest_plugins = ["training_fixtures"]


def forgets_carries(question):
    """Adds digit by digit and drops every carry."""
    a, b = (text.zfill(4)[::-1] for text in question.split("+"))
    return "".join(str((int(x) + int(y)) % 10) for x, y in zip(a, b, strict=True))[::-1].lstrip("0") or "0"


@pytest.fixture
def browser():
    return al.MistakesBrowser(forgets_carries, "D_3", n=300, on="add")


def test_every_mistake_can_be_reached_and_is_lined_up(browser):
    wrong = browser.answers[browser.answers["kind"] != "right"]
    assert browser.number.max == len(wrong) > 10
    assert browser.previous.disabled
    seen = []
    for _ in range(len(wrong)):
        seen.append(browser.digits.value)
        assert f"{browser.chosen.iloc[browser.number.value - 1]['truth']}  truth" in browser.digits.value
        browser.next.click()
    assert len(set(seen)) == len(wrong)
    assert browser.next.disabled
    assert f"Mistake {len(wrong)} of {len(wrong)}" in browser.words.value


def test_a_kind_shows_only_its_own(browser):
    kinds = dict(browser.kind.options).values()
    assert "carry" in kinds
    for name in [*kinds][1:]:
        browser.kind.value = name
        assert (browser.chosen["kind"] == name).all()
        assert browser.number.value == 1
        assert f"of the kind {name}" in browser.words.value
        assert f"{name} ({browser.number.max})" in [label for label, _ in browser.kind.options]


def test_accuracy_falls_where_carries_are(browser):
    table = accuracy_by(browser.answers, ["chain"]).set_index("chain")
    assert table.loc[0, "exact_match"] == 1
    assert (table["exact_match"].drop(0) == 0).all()
    assert table["n"].sum() == len(browser.answers)
    assert "0 % at 1" in browser.chains.outputs[0]["data"]["text/plain"]
    assert "average over the pairs of lengths" in browser.lengths.outputs[0]["data"]["text/plain"]
    lengths = browser.answers["question"].str.split("+").map(lambda pair: max(map(len, pair)))
    assert (browser.answers[["a_digits", "b_digits"]].max(axis=1) == lengths).all()


def test_another_domain_is_asked_and_a_bad_one_is_told(browser):
    browser.test.value = "D_2"
    assert browser.answers["question"].str.len().max() <= 5
    before = browser.number.max
    browser.test.value = "<b>"
    assert "&lt;b&gt;" in browser.words.value
    assert "<b>" not in browser.words.value
    assert browser.number.max == before


def test_an_error_in_the_readers_own_function_is_seen_in_the_widget():
    def knows_three_digits(question):
        return str(sum(int(text) if len(text) < 4 else {}[text] for text in question.split("+")))

    browser = al.MistakesBrowser(knows_three_digits, "D_3", n=50, on="add")
    browser.test.value = "D_4"
    assert "it raised KeyError" in browser.words.value


def test_a_model_without_mistakes_has_none_to_show():
    browser = al.MistakesBrowser(lambda q: str(sum(map(int, q.split("+")))), "D_2", n=50, on="add")
    assert "no mistake to show" in browser.words.value
    assert browser.next.disabled
    assert browser.previous.disabled


def test_a_run_frames_its_training_lengths_and_names_what_is_predicted(padded):
    browser = al.MistakesBrowser(padded, "D_3", n=100)
    assert "up to 2 digits" in browser.lengths.outputs[0]["data"]["text/plain"]
    assert "predicted" in browser.digits.value


def test_products_and_sums_of_many_are_browsed_without_the_figures_that_do_not_apply():
    product = al.MistakesBrowser(lambda question: "1", "D_2", n=50, on="mul")
    assert product.chains.outputs == ()
    assert product.lengths.outputs
    many = al.MistakesBrowser(lambda question: "1", "D_2[terms=3]", n=50, on="add")
    assert many.chains.outputs == many.lengths.outputs == ()
    assert "truth" in many.digits.value


def test_every_control_has_a_label(browser):
    for control in (browser.test, browser.kind, browser.number, browser.previous, browser.next):
        assert control.description
        assert control.tooltip


def test_a_model_needs_a_task():
    with pytest.raises(ArithlabError, match="which task"):
        al.MistakesBrowser(forgets_carries, "D_3")
