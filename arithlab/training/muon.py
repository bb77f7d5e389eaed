"""The Muon optimiser (Jordan et al. 2024, kellerjordan.github.io/posts/muon) for stacks of matrices.

torch.optim.Muon takes single matrices and orthogonalises them in bfloat16, which most CPUs emulate. Here all
matrices of one shape, of every layer and every seed, are orthogonalised in one batched float32 product.
"""

import math

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz polynomial a x + b x^3 + c x^5


@torch.no_grad()
def orthogonalize(matrices: Tensor) -> Tensor:
    """Every matrix (..., M, N) with its singular values moved close to 1, by five Newton-Schulz steps.

    >>> values = torch.linalg.svdvals(orthogonalize(torch.diag(torch.tensor([1.0, 2.0, 9.0]))))
    >>> bool((values > 0.5).all() and (values < 1.5).all())
    True
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay; the update of torch.optim.Muon.

    params: tensors (M, N) or stacks (..., M, N) of independent matrices. lr may be a tensor, which a captured
    step can change.
    """

    def __init__(self, params, lr: float | Tensor, momentum: float, weight_decay: float):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """One update of every matrix."""
        for group in self.param_groups:
            updates: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                state["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(state["momentum_buffer"], group["momentum"])
                updates.setdefault(p.shape, []).append((p, update))
            for shape, alike in updates.items():
                size = group["lr"] * math.sqrt(max(1, shape[-2] / shape[-1]))
                stack = orthogonalize(torch.stack([update for _, update in alike])) * size
                for (p, _), update in zip(alike, stack, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update)
