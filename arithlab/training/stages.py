"""The weights of a run at several stages of its training, kept beside the run."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ArithlabError, CheckpointCorrupt, TrainingFailed, shorten
from ..model.transformer import Transformer
from .machine import choose_device, memory_errors_told
from .recipe import Recipe
from .runs import Run, inside, output_folder, read_tensors, write_tensors
from .trainer import Trainer
from .waiting import waiting


class Altered(Run):
    """A run with other weights than those it ended with. It is never finished, so nothing measured of it is kept."""

    def __init__(self, run: Run, weights: dict[str, Tensor], name: str):
        super().__init__(run.path / name, run.experiment)
        self.weights = weights

    def __repr__(self) -> str:
        return f"Run {self.id}, {self.path.name}"

    @cached_property
    def model(self) -> Transformer:
        """The model with these weights, in evaluation mode, on the CPU."""
        model = self.experiment.model().eval()
        model.load_state_dict(self.weights, strict=not self.experiment.shape.tied)
        return model


def train_stages(experiment: Recipe, stages: Iterable[int], device: str = "auto") -> dict[int, Altered]:
    """The run of an experiment after so many steps of its training, for each of `stages`: step to run.

    Each can be asked, tested and looked into as any run. They are trained once, with the very steps of `fit` (on one
    machine the last stage holds the bytes of the finished run), and kept in outputs/runs/<run id>/stages; what is
    interrupted begins anew. Stage 0 is the model before its first step.
    """
    stages = list(stages)
    for stage in stages:
        if not isinstance(stage, int) or isinstance(stage, bool) or not 0 <= stage <= experiment.steps:
            raise ArithlabError(
                f"stage {shorten(stage)}: allowed are whole numbers of steps from 0 to {experiment.steps}, where the "
                "training ends."
            )
    run = Run(output_folder() / "runs" / experiment.id, experiment)
    folder = inside(run.path / "stages")
    paths = {step: folder / f"step-{step:09d}.safetensors" for step in stages}
    if missing := [step for step in stages if not _whole(paths[step])]:
        _train(experiment, {step: paths[step] for step in missing}, device)
    return {step: Altered(run, read_tensors(paths[step])[0], f"step {step}") for step in stages}


def _whole(path: Path) -> bool:
    try:
        read_tensors(path)
    except CheckpointCorrupt:
        return False
    return True


def _train(experiment: Recipe, paths: dict[int, Path], device: str) -> None:
    with memory_errors_told(experiment):
        trainer = Trainer(experiment, choose_device(device))
        for step in waiting(range(max(paths) + 1), f"{experiment.title}, {len(paths)} stages"):
            if step in paths:
                write_tensors(paths[step], trainer.weights(), {"step": step})
            if step < max(paths):
                loss = trainer.step(step)
                if not torch.isfinite(loss).all():
                    raise TrainingFailed(f"the loss is {loss.item()} at step {step + 1}: lower lr or matrix_lr.")
