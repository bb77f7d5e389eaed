"""The head that looks for an example of the question's ratio: attention counted a second time, heads silenced twice."""

import numpy as np
import pytest
import torch

from arithlab.errors import ArithlabError
from arithlab.inspection import in_context, matching
from arithlab.model.transformer import Probe
from arithlab.training import shots

pytest_plugins = ["training_fixtures"]
P, SHOTS = 5, 4


def test_attention_on_the_same_ratio_is_that_of_a_count_by_hand(learner):
    examples = in_context.examples_of(learner.experiment, matching.TASK, SHOTS)
    sums = np.zeros((2, 3))
    asked = 0
    for x in range(1, P):
        for y in range(1, P):
            same = [k for k, (a, b, _) in enumerate(examples) if a and b and (a * y - b * x) % P == 0]
            if not same:
                continue
            kept = in_context.recording(learner, examples, np.array([[x, y]]))
            weights = kept["attention", 0][0, :, -1].double().numpy()  # (H, T)
            assert np.allclose(weights.sum(1), 1)
            everything = [3 * k + token for k in same for token in range(3)]
            sums[:, 0] += weights[:, everything].sum(1)
            sums[:, 1] += weights[:, [3 * k + 2 for k in same]].sum(1)
            sums[:, 2] += len(everything) / weights.shape[1]
            asked += 1
    table = matching.ratio_attention(learner, shots=SHOTS)
    assert table[["layer", "head"]].to_numpy().tolist() == [[0, 0], [0, 1]]
    assert table[["same_ratio", "same_z", "even"]].to_numpy() == pytest.approx(sums / asked, abs=1e-6)


def test_a_silenced_head_is_a_head_that_is_cut(learner):
    made = learner.experiment.made.test("ood train", 20, 0)
    for head in (0, 1):
        silenced = matching.without_head(learner, 0, head)
        expected = shots.logits(learner.model, made, Probe(attention=None, cut={(0, head)}))
        assert torch.allclose(shots.logits(silenced.model, made), expected, atol=1e-5)
    assert not torch.allclose(shots.logits(learner.model, made), expected, atol=1e-3)  # and the run is as it was


def test_every_head_is_silenced_in_turn(learner):
    table = matching.cut_heads(learner, n=40)
    assert table[["layer", "head"]].to_numpy().tolist() == [[-1, -1], [0, 0], [0, 1]]
    whole = shots.late(shots.by_shots(learner, "ood train", n=40).exact_match.to_numpy())
    assert table.exact_match[0] == whole


@pytest.mark.parametrize(
    ("ask", "hint"),
    [
        (lambda run: matching.without_head(run, 1, 0), "layers 0 to 0"),
        (lambda run: matching.without_head(run, 0, 2), "heads 0 to 1"),
        (lambda run: matching.ratio_attention(run, shots=99), "99 examples: allowed are 0 to"),
        (lambda run: matching.cut_heads(run, "ood"), "test set"),
    ],
)
def test_what_cannot_be_asked_says_what_is_allowed(learner, ask, hint):
    with pytest.raises(ArithlabError, match=hint):
        ask(learner)
