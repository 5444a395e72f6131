"""The router loss of mixture-of-experts students, added to the compatibility loss as TRL adds it to its own."""

from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigurationError
from ...models.adapters import base_model
from ...models.asking import asking
from ..hooks import accumulated_batches, router_loss_weight
from ..rows.tokens import ROUTER_LOGITS, model_inputs


class RouterLoss:
    """The load-balancing loss of the student's routers (Switch Transformers, arXiv 2101.03961, Eq. 4 to 6).

    Its weight is `router_aux_loss_coef`, by default that of the model's config. It is a mean over the positions of one
    forward pass, so it is divided by the passes of an optimizer step, and not by trained tokens. Teachers do not
    compute it. Without routers, or with weight 0, nothing is added.
    """

    def __init__(self, trainer: Any) -> None:
        """Read the weight that the parent has found; it is refused where the model gives no router loss."""
        self.trainer, self.weight = trainer, router_loss_weight(trainer)

    @torch.no_grad()
    def check(self, student: nn.Module, batch: dict[str, Any]) -> None:
        """Refuse a student that gives no router loss, before training."""
        if self.weight:
            with asking(student):
                _router_loss(student, student(**model_inputs(batch) | {ROUTER_LOGITS: True}))

    def asked(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch with which the student gives its router loss."""
        return batch | {ROUTER_LOGITS: True} if self.weight else batch

    def added(self, loss: Tensor, outputs: Any) -> Tensor:
        """Return the loss of a batch with its share of the router loss, as it is without routers."""
        if not self.weight:
            return loss
        passes = accumulated_batches(self.trainer) if self.trainer.model.training else 1
        return loss + (self.weight * _router_loss(self.trainer.model, outputs) / passes).to(loss.device)

    def counts(self, outputs: Any) -> dict[str, Tensor | float]:
        """Return what is added up for the log."""
        if not self.weight:
            return {}
        return {"router_loss": _router_loss(self.trainer.model, outputs).detach(), "router_batches": 1.0}


def _router_loss(model: nn.Module, outputs: Any) -> Tensor:
    loss = getattr(outputs, "aux_loss", None)
    if not isinstance(loss, Tensor):
        raise ConfigurationError(
            f"{type(base_model(model)).__name__} has a router loss in its config and gives none (`aux_loss`). Set "
            "router_aux_loss_coef=0.0 to train without it."
        )
    return loss
