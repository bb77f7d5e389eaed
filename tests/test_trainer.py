"""The step: Muon against its definition, seeds together against seeds alone, precision, and falling back."""

import itertools

import numpy as np
import pytest
import torch
from training_fixtures import BRIEF, result

from arithlab import Experiment, train
from arithlab.errors import ArithlabError
from arithlab.model.positions import Layout
from arithlab.training import trainer as trainer_module
from arithlab.training.fit import fit, train_seeds
from arithlab.training.muon import COEFFICIENTS, Muon, orthogonalize
from arithlab.training.runs import Run
from arithlab.training.trainer import Trainer, choose_precision

pytest_plugins = ["training_fixtures"]
pytestmark = pytest.mark.usefixtures("out")

CPU = torch.device("cpu")
PLAIN = BRIEF.with_(dropout=0.0)


@pytest.mark.parametrize(
    ("fmt", "text", "positions"),
    [("padded 4", "add", "rope"), ("unpadded", "add", "clipped places"), ("schoolbook", "mul", "grid window 1"),
     ("sums", "add", "grid"), ("aligned", "add", "clipped places window 1")],
)  # fmt: skip
def test_training_sees_the_examples_as_evaluation_does(fmt, text, positions):
    e = Experiment(task=text, train="D_3", format=fmt, positions=positions, size="2-2-16", batch=16)
    made = Trainer(e, CPU)
    tokens = made.batches[0](0)
    ids = torch.from_numpy(tokens.ids).long()
    with torch.no_grad():
        for weight in made.models[0].parameters():  # small ones hide what is read
            weight += 0.3 * torch.randn_like(weight)
        logits = made.models[0](ids[:, :-1], layout=Layout.of(tokens)).log_softmax(-1)
        supervised = torch.from_numpy(np.broadcast_to(tokens.supervised, tokens.ids.shape)[:, 1:].copy())
        wanted = -logits.gather(-1, ids[:, 1:, None])[..., 0][supervised].mean()
    assert made.step(0).item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 32)])
def test_newton_schulz_applies_its_polynomial_to_the_singular_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, values, v = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
    a, b, c = COEFFICIENTS
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    assert torch.allclose(orthogonalize(matrix), u @ values.diag() @ v, atol=1e-8)


def test_muon_steps_like_torchs_own_up_to_its_bfloat16():
    start = torch.randn(24, 8, generator=torch.Generator().manual_seed(2))
    settings = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.5}
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    pair = ((ours, Muon([ours], **settings)), (theirs, torch.optim.Muon([theirs], **settings)))
    for step in range(10):
        for p, optimizer in pair:
            p.grad = torch.sin(p.detach() * (step + 1))
            optimizer.step()
    moved = (ours - start).norm()
    assert moved > 0.5
    assert (ours - theirs).norm() < 0.02 * moved


def test_a_stack_of_matrices_moves_as_each_of_them_does():
    generator = torch.Generator().manual_seed(3)
    weights, grads = torch.randn(3, 8, 5, generator=generator), torch.randn(3, 8, 5, generator=generator)
    whole, parts = weights.clone(), [w.clone() for w in weights]
    whole.grad = grads.clone()
    for part, grad in zip(parts, grads, strict=True):
        part.grad = grad.clone()
    Muon([whole], 0.02, 0.95, 0.1).step()
    Muon(parts, 0.02, 0.95, 0.1).step()
    assert torch.allclose(whole, torch.stack(parts), atol=1e-6)
    assert not torch.allclose(whole, weights, atol=1e-3)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize(
    ("positions", "written", "sink"),
    [("learned", "padded 2", 0.0), ("shaw", "unpadded", 20.0), ("t5 places window 4", "aligned", 0.0)],
)
def test_seeds_together_are_the_seeds_alone(optimizer, positions, written, sink):
    e = PLAIN.with_(optimizer=optimizer, positions=positions, format=written, sink=sink)
    seeds = (3, 0, 7)
    together = Trainer(e, CPU, seeds)
    losses = torch.stack([together.step(step) for step in range(4)])
    for k, seed in enumerate(seeds):
        alone = Trainer(e.with_(seed=seed), CPU)
        assert torch.allclose(torch.cat([alone.step(step) for step in range(4)]), losses[:, k], atol=1e-4)
        for name, value in alone.weights().items():
            assert torch.allclose(value, together.weights(k)[name], atol=5e-3), name
    assert (losses[:, 0] - losses[:, 1]).abs().max() > 1e-3


def test_seeds_together_leave_finished_runs_and_resume_where_all_of_them_stand():
    uninterrupted = list(fit(PLAIN, seeds=(0, 1)))[-1].runs
    wanted = [result(run) for run in uninterrupted]
    assert [row["seed"] for row in next(now.rows for now in fit(PLAIN, seeds=(2, 3)) if now.rows)] == [2, 2, 3, 3]
    for run in uninterrupted:
        for path in sorted(run.path.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    for _ in itertools.islice(fit(PLAIN, seeds=(0, 1)), 25):
        pass
    assert not Run.of(PLAIN).finished
    assert [now.step for now in fit(PLAIN, seeds=(0, 1))] == list(range(26, 41))
    assert [result(Run.of(PLAIN.with_(seed=seed))) for seed in (0, 1)] == wanted


def test_a_seed_stopped_in_company_goes_on_alone():
    for _ in itertools.islice(fit(PLAIN, seeds=(0, 1)), 10):
        pass
    assert next(iter(fit(PLAIN))).step == 11


def test_train_seeds_gives_every_run_in_order():
    train(PLAIN.with_(seed=1))
    runs = train_seeds(PLAIN, (1, 0), device="cpu")
    assert [run.experiment.seed for run in runs] == [1, 0]
    assert all(run.finished for run in runs)


def test_seeds_together_refuse_dropout():
    with pytest.raises(ArithlabError, match="dropout"):
        Trainer(BRIEF.with_(dropout=0.1), CPU, (0, 1))


def test_bfloat16_falls_back_with_a_notice_where_it_is_emulated(monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False})
    assert choose_precision("bfloat16", CPU) == "float32"
    assert "AMX" in capsys.readouterr().err
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert choose_precision("bfloat16", CPU) == "bfloat16"


@pytest.mark.parametrize("positions", ["learned", "rope", "t5", "shaw", "alibi"])
def test_bfloat16_products_leave_the_loss_close_and_the_weights_float32(positions, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    exact = Trainer(PLAIN.with_(positions=positions), CPU)
    rounded = Trainer(PLAIN.with_(positions=positions, precision="bfloat16"), CPU)
    pairs = [(exact.step(step).item(), rounded.step(step).item()) for step in range(10)]
    assert all(abs(a - b) < 0.03 * a for a, b in pairs)
    assert any(a != b for a, b in pairs)
    assert all(value.dtype == torch.float32 for value in rounded.weights().values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a step can be captured here")
def test_a_step_that_cannot_be_captured_runs_eagerly(capsys):
    eager, captured = Trainer(PLAIN, CPU), Trainer(PLAIN, CPU)
    captured.graphs = {}
    assert [captured.step(step) for step in range(3)] == [eager.step(step) for step in range(3)]
    assert captured.graphs is None
    assert "CUDA graph" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_captured_steps_are_the_eager_ones():
    gpu = torch.device("cuda")
    eager, captured = Trainer(PLAIN, gpu), Trainer(PLAIN, gpu)
    eager.graphs = None
    for step in range(10):
        assert torch.allclose(eager.step(step), captured.step(step), atol=1e-3)
    assert captured.graphs
    assert trainer_module.WARM_STEPS < 10
