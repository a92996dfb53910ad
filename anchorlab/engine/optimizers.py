"""Optimizers of a population: one torch optimizer per member, on its slice of the stacked parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from .schedules import Schedule

OptimizerName = Literal["adamw", "adam", "sgd", "gd"]
DecayScope = Literal["all", "matrices"]


@dataclass(frozen=True)
class OptimizerSettings:
    """How one member is optimized.

    `adamw` decouples weight decay, `adam` adds it to the gradient (L2), `sgd` and `gd` are torch's SGD (`gd` is used
    with the whole data set as its batch). `decay_scope` says which parameters decay: `all` as in the papers, or
    `matrices` (two or more dimensions: no biases, no LayerNorm). `clip_norm` bounds this member's global gradient norm.
    """

    name: OptimizerName
    schedule: Schedule
    weight_decay: float = 0.0
    decay_scope: DecayScope = "all"
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.0
    clip_norm: float | None = None


class MemberOptimizer:
    """The optimizer of one member over views of the population's stacked parameters."""

    def __init__(self, settings: OptimizerSettings, views: Mapping[str, Tensor]):
        self.settings = settings
        self.views = dict(views)
        decayed = [v for v in views.values() if settings.decay_scope == "all" or v.ndim >= 2]
        kept = [v for v in views.values() if settings.decay_scope == "matrices" and v.ndim < 2]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": kept, "weight_decay": 0.0}]
        self._optimizer = _build(settings, [group for group in groups if group["params"]])

    def step(self, gradients: Mapping[str, Tensor], rate: float) -> bool:
        """Apply one update; return False, changing nothing, if a gradient is not finite.

        Gradients must be contiguous: the fused CPU kernel ignores strides without an error.
        """
        for name, view in self.views.items():
            view.grad = gradients[name]
        if self.settings.clip_norm is None:
            norm = get_total_norm(gradients.values())
        else:
            norm = clip_grad_norm_(self.views.values(), self.settings.clip_norm)
        if not torch.isfinite(norm):
            return False
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        return True

    def state(self) -> dict[str, Tensor]:
        """The optimizer's tensors, named `<parameter>/<entry>`."""
        state = self._optimizer.state
        return {
            f"{name}/{entry}": value
            for name, view in self.views.items()
            for entry, value in state[view].items()
            if isinstance(value, Tensor)
        }

    def load_state(self, saved: Mapping[str, Tensor]) -> None:
        """Continue from the tensors that `state` gave."""
        for key, value in saved.items():
            name, entry = key.rsplit("/", 1)
            self._optimizer.state[self.views[name]][entry] = value.to(self.views[name].device, copy=True)


def _build(settings: OptimizerSettings, groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    # The rate is set before every step; the constructor's value is never used.
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, fused=True)
    if settings.name == "adam":
        return torch.optim.Adam(groups, lr=0.0, betas=settings.betas, fused=True)
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum)
