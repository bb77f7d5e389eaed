"""A causal language model of the transformers package, made here and saved in a folder, studied like any other."""

import builtins
import re
from contextlib import chdir
from pathlib import Path

import pytest

import arithlab as al
from arithlab.errors import ArithlabError, PackageMissing
from arithlab.notebook import plots
from arithlab.training.hugging_face import hugging_face

PAGE = (Path(__file__).parent.parent / "docs" / "elsewhere.md").read_text()
EXAMPLE = re.findall(r"```python\n(.*?)```", PAGE, re.S)


def test_a_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *given, **more):
        if name.startswith("transformers"):
            raise ModuleNotFoundError("No module named 'transformers'", name="transformers")
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PackageMissing, match=r"pip install 'arithlab\[hf\]'"):
        hugging_face("anywhere")


@pytest.mark.parametrize("wrong", [{"prompt": "2+2="}, {"prompt": None}, {"digits": 0}, {"digits": "9"}])
def test_bad_settings_are_told_before_anything_is_loaded(wrong):
    with pytest.raises(ArithlabError, match=r"prompt|digits"):
        hugging_face("anywhere", **wrong)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The model that docs/elsewhere.md makes: a GPT-2 of one layer, its tokens single characters."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[hf]'")
    where = tmp_path_factory.mktemp("gpt2")
    with chdir(where):
        exec(EXAMPLE[0], {})
    return where / "tiny-gpt2"


@pytest.fixture(scope="module")
def ask(folder):
    return hugging_face(folder, digits=4)


def test_what_it_answers_does_not_depend_on_the_company(ask):
    questions = ["1+2", "345+678", "9+90"]
    together = ask(questions)
    assert together == [ask([question])[0] for question in questions]
    assert any(together), "a model that writes no digit shows nothing"


def test_it_answers_what_its_logits_say(ask, folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("12+34=", return_tensors="pt")["input_ids"]
    prompt = ids.shape[1]
    for _ in range(4):
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    written = tokenizer.decode(ids[0, prompt:], skip_special_tokens=True).split(";")[0]
    digits = written[: next((i for i, sign in enumerate(written) if not sign.isdigit()), len(written))]
    assert ask(["12+34"]) == [digits]


def test_maps_equivalence_and_the_browser_of_mistakes_work_on_it(ask):
    table = al.length_map(ask, [1, 2], n=5, on="add")
    assert table["exact_match"].between(0, 1).all()
    assert "average over the pairs" in plots.length_heatmaps({"gpt2": table}).layout.meta["alt"]
    assert al.equivalence(ask, 2, n=20, on="add")["candidate"].tolist()
    browser = al.MistakesBrowser(ask, "D_2", n=20, on="add")
    assert len(browser.answers) == 20
    assert "truth" in browser.digits.value


def test_a_question_beyond_its_context_is_told(ask):
    with pytest.raises(ArithlabError, match="cannot be used"):
        al.length_map(ask, [20], n=1, on="add")


def test_a_folder_without_a_model_is_told(folder, tmp_path):
    with pytest.raises(ArithlabError, match="no causal language model"):
        hugging_face(tmp_path)


def test_the_worked_example_runs_and_nothing_is_right(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    exec(EXAMPLE[1], made := {})
    assert made["map_of_lengths"].exact_match.mean() < 0.1
    assert made["found"].agreement.max() < 0.2
    assert made["sorted_"].kind.eq("right").mean() < 0.2
