"""Looking inside: maps of the answering pass, cuts that cut, a carry test that can tell."""

import numpy as np
import pytest
import torch

import arithlab as al
from arithlab.arithmetic import digits as dg
from arithlab.arithmetic.dependence import dependence
from arithlab.errors import ArithlabError
from arithlab.training.runs import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("ARITHLAB_OUT", str(tmp_path_factory.mktemp("inspection")))
    patch.setenv("ARITHLAB_QUIET", "1")
    yield al.train(al.Experiment(train="D_2", format="padded 3", size="2-4-32", steps=300, batch=128))
    patch.undo()


def test_attention_rows_sum_to_one_and_labels_name_places(run):
    table = al.attention(run, "34+57")
    sums = table.groupby(["layer", "head", "query"]).weight.sum()
    assert np.allclose(sums, 1, atol=1e-5)
    assert set(table.head(500).key_label) >= {"a\u2080=4", "a\u2081=3", "b\u2080=7", "+"}
    assert (table.key <= table["query"]).all()


def test_the_maps_belong_to_the_answer_that_free_running_decoding_gives(run):
    for question in ("34+57", "99+1", "5+5"):
        table = al.attention(run, question)
        writes = table.drop_duplicates("query").set_index("query")["writes"]
        digits = [label.split("=")[1] for label in writes if label.startswith("c")]
        assert ("".join(digits[::-1]).lstrip("0") or "0") == al.answer(run, [question])[0]


class OracleModel(torch.nn.Module):
    """Writes the next digit of a sum from the operands and, where they leave it open, the digit written before."""

    def __init__(self, experiment, reads_written):
        super().__init__()
        self.experiment, self.reads_written = experiment, reads_written

    def forward(self, ids, tail, layout=None):
        e, out = self.experiment, torch.zeros(len(ids), 1, 14)
        width = e.format_.width
        for row, line in enumerate(ids.tolist()):
            a, b, written = line[:width], line[width + 1 : 2 * width + 1], line[2 * width + 2 :]
            carry = 0
            for place in range(len(written)):
                total = a[place] + b[place]
                if self.reads_written and total == 9:
                    carry = 1 if written[place] == 0 else 0
                else:
                    carry = int(total + carry >= 10)
            place = len(written)
            out[row, 0, (a[place] + b[place] + carry) % 10] = 1
        return out


@pytest.mark.parametrize(("reads_written", "moved"), [(True, 1.0), (False, 0.0)])
def test_the_carry_test_tells_a_model_that_reads_the_written_digit_from_one_that_does_not(reads_written, moved):
    experiment = al.Experiment(train="D_3", format="padded 3")
    oracle = Run("nowhere", experiment)
    oracle.__dict__["model"] = OracleModel(experiment, reads_written)
    table = al.carry_test(oracle, digits=3, n=300)
    assert (table[table.case == "carry open"].moved == moved).all()
    assert (table[table.case == "control"].moved == 0).all()
    assert (table[table.case == "control"].changed == 0).all()


def test_the_carry_test_refuses_what_it_cannot_test():
    with pytest.raises(ArithlabError, match="plain addition"):
        al.carry_test(Run("nowhere", al.Experiment(task="mul", train="D_2")), digits=2)


@pytest.mark.parametrize(("text", "digits"), [("add base 4", 2), ("mul base 3", 2), ("mul mod 7 base 4", 2)])
def test_dependence_equals_brute_force(text, digits):
    t = al.task(text)
    found = dependence(t, digits)
    count, places = t.base**digits, found.shape[0]
    expected = np.zeros_like(found)
    for place in range(digits):
        for a in range(count):
            for b in range(count):
                before = dg.from_ints([t.compute(a, b)], t.base, places)[0]
                digit = a // t.base**place % t.base
                for other in set(range(t.base)) - {digit}:
                    changed = a + (other - digit) * t.base**place
                    expected[:, place] += dg.from_ints([t.compute(changed, b)], t.base, places)[0] != before
    assert np.allclose(found, expected / (count * count * (t.base - 1)))


def test_dependence_refuses_what_it_cannot_list():
    with pytest.raises(ArithlabError, match="too many pairs"):
        dependence(al.task("add"), 5)
