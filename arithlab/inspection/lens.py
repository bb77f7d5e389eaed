"""Which part of the model writes which answer digit: direct logit attribution, and the logit lens.

Sources: attribution as in Elhage et al. 2021 (A Mathematical Framework for Transformer Circuits), the lens as in
nostalgebraist 2020 (interpreting GPT: the logit lens). Only what a part says straight to the output is counted, not
what later parts make of it.
"""

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ..training.runs import Run
from .cuts import part_name
from .recording import held_out, record


@torch.inference_mode()
def attribution(run: Run, digits: int, n: int = 500) -> pd.DataFrame:
    """What each part adds to the logit of the right digit, at every place of the answer.

    The logit counts less the mean of all digits' logits. The final LayerNorm divides by the standard deviation that
    the whole stream has (frozen), so that everything is a sum: the parts embedding (token and position), head, mlp and
    bias (of the attentions and the final norm; zero in a model without) add up to `whole`, which is read from the
    model's own logits. Columns: part, layer, head (-1 where there is none), name, place, contribution (mean over n
    questions).
    """
    questions = held_out(run, digits, n)
    model, shape = run.model, run.experiment.shape
    seen = record(model, questions, ("resid_pre", "z", "mlp_out", "resid_post"))
    weight, rows = model.head.weight, []
    for place in range(len(questions.answer)):
        at, right = questions.writer(place), questions.right(place)
        logits = seen["logits", 0][:, at]
        direction = weight[right] - weight[questions.digit_ids].mean(0)  # (N, C)
        last = seen["resid_post", shape.layers - 1][:, at]
        scale = (last.var(-1, correction=0, keepdim=True) + model.norm.eps).sqrt()
        reads = direction * model.norm.weight / scale
        reads = reads - reads.mean(-1, keepdim=True)  # the norm takes the mean away: so no part's mean counts

        def add(part: str, layer: int, head: int, value: Tensor, place: int = place) -> None:
            about = {"part": part, "layer": layer, "head": head, "name": part_name(part, layer, head)}
            rows.append({**about, "place": place, "contribution": value.double().mean().item()})

        bias = torch.zeros(len(right)) if model.norm.bias is None else direction @ model.norm.bias
        add("embedding", -1, -1, (seen["resid_pre", 0][:, at] * reads).sum(-1))
        for layer, block in enumerate(model.blocks):
            heads = block.attention.out.weight.unflatten(1, (shape.heads, -1))  # (C, H, D)
            out = torch.einsum("nhd,chd,nc->nh", seen["z", layer][:, :, at], heads, reads)
            for head in range(shape.heads):
                add("head", layer, head, out[:, head])
            if block.attention.out.bias is not None:
                bias = bias + reads @ block.attention.out.bias
            add("mlp", layer, -1, (seen["mlp_out", layer][:, at] * reads).sum(-1))
        add("bias", -1, -1, bias)
        own = logits.gather(1, right[:, None])[:, 0]
        add("whole", -1, -1, own - logits[:, questions.digit_ids].mean(1))
    return pd.DataFrame(rows)


def logit_lens(run: Run, digits: int, n: int = 500) -> pd.DataFrame:
    """What the model would answer if it stopped early: the final norm and output after each block.

    Columns: layer (-1: the embedding), after (in words), place, accuracy (share of right digits where the lens says
    its likeliest token), probability (mean, of the right digit). The rows of the last layer are the model itself.
    """
    questions = held_out(run, digits, n)
    model = run.model
    seen = record(model, questions, ("resid_pre", "resid_post"))
    rows = []
    for layer in range(-1, run.experiment.shape.layers):
        stream = seen["resid_pre", 0] if layer < 0 else seen["resid_post", layer]
        after = "embedding" if layer < 0 else f"layer {layer + 1}"
        for place in range(len(questions.answer)):
            right = questions.right(place)
            with torch.inference_mode():
                shares = F.softmax(model.head(model.norm(stream[:, questions.writer(place)])).double(), -1)
            hit = (shares.argmax(-1) == right).double().mean().item()
            sure = shares.gather(1, right[:, None]).mean().item()
            rows.append({"layer": layer, "after": after, "place": place, "accuracy": hit, "probability": sure})
    return pd.DataFrame(rows)
