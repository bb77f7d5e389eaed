"""One training step: the one place where weights change.

A Trainer holds the models of one experiment for one seed or several. Several seeds train as one: every
parameter gets a leading seed axis and each seed sees its own batches, so that a GPU, which a tiny model leaves
idle, costs little more for eight seeds than for one.
"""

import math
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from ..arithmetic import batches
from ..errors import ArithlabError
from ..model.positions import Layout
from .muon import Muon
from .recipe import Recipe

DROPOUT = 3  # random stream of a seed, beside those of batches: dropout and random positions
WARM_STEPS = 3  # eager steps before a GPU step is captured


def choose_precision(precision: str, device: torch.device) -> str:
    """The precision to work in: bfloat16 falls back to float32, with a notice, on a CPU that emulates it."""
    if precision == "bfloat16" and device.type == "cpu" and not torch.cpu.get_capabilities().get("amx_bf16"):
        print("This CPU has no bfloat16 matrix unit (AMX): training in float32 instead.", file=sys.stderr)
        return "float32"
    return precision


class Trainer:
    """Models and optimisers of an experiment, for its own seed or for all of `seeds` together."""

    def __init__(self, experiment: Recipe, device: torch.device, seeds: Sequence[int] = ()):
        e = self.experiment = experiment
        self.device, self.seeds = device, tuple(seeds) or (e.seed,)
        self.precision = choose_precision(e.precision, device)
        self.models = []
        for seed in self.seeds:
            torch.manual_seed(seed)
            self.models.append(e.model().to(device).train())
        if len(self.seeds) > 1 and self.models[0].draws:
            raise ArithlabError("dropout and random positions differ by seed: train these seeds one by one.")
        self.parameters = dict(self.models[0].named_parameters())
        if len(self.seeds) > 1:
            self._stack()
        matrices = [n for n, p in self.models[0].named_parameters() if n.startswith("blocks.") and p.ndim == 2]
        matrices = matrices if e.optimizer == "muon" else []
        rest = [n for n in self.parameters if n not in matrices]
        flat = [n for n in rest if self.models[0].get_parameter(n).ndim < 2]
        groups = [
            {"params": [self.parameters[n] for n in rest if n not in flat], "weight_decay": e.weight_decay},
            {"params": [self.parameters[n] for n in flat], "weight_decay": 0.0},
        ]
        on_gpu = device.type == "cuda"

        def rate(peak: float) -> float | Tensor:  # a tensor where the step is captured, so that it can change
            return torch.tensor(peak, device=device) if on_gpu else peak

        self.optimizers = [
            torch.optim.AdamW(
                [g for g in groups if g["params"]], lr=rate(e.lr), betas=(0.9, 0.99), fused=True, capturable=on_gpu
            )
        ]
        if matrices:
            chosen = [self.parameters[n] for n in matrices]
            self.optimizers.append(Muon(chosen, lr=rate(e.matrix_lr), momentum=0.95, weight_decay=e.weight_decay))
        self.peaks = [e.lr, e.matrix_lr]
        self.batches = [e.training_batches(seed) for seed in self.seeds]
        self.graphs: dict[tuple, _Graph] | None = {} if on_gpu and not self.models[0].draws else None

    def _stack(self) -> None:
        """One tensor (seeds, ...) for each parameter; the models keep views of their own part."""
        each = [dict(model.named_parameters()) for model in self.models]
        for name in self.parameters:
            whole = torch.stack([parameters[name].data for parameters in each])
            for k, parameters in enumerate(each):
                parameters[name].data = whole[k]
            self.parameters[name] = whole.requires_grad_()
        for block in self.models[0].blocks:
            block.attention.fused = False

    def rate(self, step: int) -> float:
        """The learning rate of a step as a fraction of its peak."""
        e = self.experiment
        rise = min(1.0, (step + 1) / max(1, e.warmup))
        left = 1 - step / e.steps
        if e.schedule == "cosine":
            return rise * (0.1 + 0.45 * (1 + math.cos(math.pi * (1 - left))))
        return rise * left if e.schedule == "linear" else rise

    def step(self, step: int) -> Tensor:
        """One optimiser step on the batch of this step number; returns the loss, one per seed: shape (seeds,)."""
        e = self.experiment
        if self.models[0].draws:  # a function of (seed, step) as the batch is, whoever else draws random numbers
            torch.manual_seed(int(batches.stream(e.seed, DROPOUT, step).integers(2**63)))
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=False):
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(peak * self.rate(step))
                else:
                    group["lr"] = peak * self.rate(step)
        inputs = self._inputs(step)
        return self._update(*inputs) if self.graphs is None else self._replay(inputs)

    def _inputs(self, step: int) -> tuple[Tensor, ...]:
        """ids (seeds, batch, T), targets (seeds, batch, S), -100 where nothing is to be predicted, and the layouts.

        Those are roles and places (seeds, batch or 1, T), and where there are levels these, (seeds, 2, batch or 1, T).
        Batches of several seeds are padded to one length.
        """
        rows = [batch(step) for batch in self.batches]
        length = max(tokens.ids.shape[1] for tokens in rows)

        def stacked(name: str) -> Tensor:
            arrays = [getattr(tokens, name) for tokens in rows]
            count = max(array.shape[-2] for array in arrays)
            arrays = [np.broadcast_to(array, (*array.shape[:-2], count, array.shape[-1])) for array in arrays]
            ends = [[(0, 0)] * (array.ndim - 1) + [(0, length - array.shape[-1])] for array in arrays]
            padded = np.stack([np.pad(array, end) for array, end in zip(arrays, ends, strict=True)])
            return torch.from_numpy(padded).to(self.device, non_blocking=True)

        ids, supervised = stacked("ids").long(), stacked("supervised")
        tail = max(length - tokens.ids.shape[1] + tokens.tail for tokens in rows)
        targets = ids[..., -tail:].masked_fill(~supervised[..., -tail:], -100)
        names = ("role", "place") if rows[0].levels is None else ("role", "place", "levels")
        return ids, targets, *(stacked(name).long() for name in names)

    def _losses(self, ids: Tensor, targets: Tensor, *layouts: Tensor) -> Tensor:
        """Mean cross-entropy over the supervised tokens, one per seed."""
        model, parameters = self.models[0], self.parameters
        if self.precision == "bfloat16":
            parameters = {name: p.bfloat16() for name, p in parameters.items()}

        def loss(parameters: dict, ids: Tensor, targets: Tensor, *layout: Tensor) -> Tensor:
            inputs = {"ids": ids[:, :-1], "tail": targets.shape[1], "layout": Layout(*layout)}
            own = parameters is self.parameters and len(self.seeds) == 1
            logits = model(**inputs) if own else functional_call(model, parameters, kwargs=inputs)
            return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

        if len(self.seeds) > 1:
            return torch.vmap(loss)(parameters, ids, targets, *layouts)
        return loss(parameters, ids[0], targets[0], *(layout[0] for layout in layouts))[None]

    def _update(self, *inputs: Tensor) -> Tensor:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        losses = self._losses(*inputs)
        losses.sum().backward()
        if len(self.seeds) == 1:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        else:
            _clip_each(list(self.parameters.values()))
        for optimizer in self.optimizers:
            optimizer.step()
        return losses.detach()

    def _replay(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """The step as one launch: captured as a CUDA graph, per shape of the batch, after a few eager steps."""
        graph = self.graphs.setdefault(tuple(x.shape for x in inputs), _Graph())
        try:
            return graph.step(self._update, inputs)
        except RuntimeError as error:
            print(f"This step cannot be captured as a CUDA graph; going on without: {error}", file=sys.stderr)
            self.graphs = None
            return self._update(*inputs)

    def state(self, k: int = 0) -> tuple[dict[str, Tensor], dict]:
        """Everything that the next step of seed number k depends on: tensors and scalars."""
        tensors = {f"model.{name}": value for name, value in self.weights(k).items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, values in optimizer.state_dict()["state"].items():
                for key, value in values.items():
                    value = torch.as_tensor(value)
                    several = len(self.seeds) > 1 and value.ndim
                    tensors[f"optimizer.{i}.{j}.{key}"] = value[k] if several else value
        return tensors, {"experiment": self.experiment.with_(seed=self.seeds[k]).to_json()}

    def restore(self, states: Sequence[dict[str, Tensor]]) -> None:
        """The inverse of `state`, for every seed."""
        for model, tensors in zip(self.models, states, strict=True):
            weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
            model.load_state_dict(weights, strict=not self.experiment.shape.tied)
        for i, optimizer in enumerate(self.optimizers):
            state: dict[int, dict] = {}
            for name, value in states[0].items():
                if name.startswith(f"optimizer.{i}."):
                    _, _, j, key = name.split(".", 3)
                    several = len(states) > 1 and value.ndim
                    state.setdefault(int(j), {})[key] = torch.stack([s[name] for s in states]) if several else value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

    def weights(self, k: int = 0) -> dict[str, Tensor]:
        """The tensors of the model of seed number k; a tied output matrix is kept once."""
        state = self.models[k].state_dict()
        if self.experiment.shape.tied:
            del state["head.weight"]
        return state


def _clip_each(parameters: Sequence[Tensor], most: float = 1.0) -> None:
    """torch.nn.utils.clip_grad_norm_ for each seed on its own."""
    squares = torch.stack([p.grad.flatten(1).square().sum(1) for p in parameters])
    factor = (most / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)  # (seeds,)
    for p in parameters:
        p.grad.mul_(factor.view(-1, *[1] * (p.ndim - 1)))


class _Graph:
    """One captured step: fixed input tensors, and the launch that reads them."""

    def __init__(self):
        self.seen, self.graph = 0, None

    def step(self, update: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
        """Eager for the first steps (on a side stream, as capturing demands), a replay from then on."""
        if self.graph is None and self.seen < WARM_STEPS:
            self.seen += 1
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                loss = update(*inputs)
            torch.cuda.current_stream().wait_stream(side)
            return loss
        if self.graph is None:
            self.inputs, graph = [x.clone() for x in inputs], torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.loss = update(*self.inputs)
            self.graph = graph
        for fixed, x in zip(self.inputs, inputs, strict=True):
            fixed.copy_(x)
        self.graph.replay()
        return self.loss.clone()
