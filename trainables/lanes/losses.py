"""The training loss of all lanes: a trial's own, with its label smoothing and class weights, in a few operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.training import Course


class Loss:
    """Cross-entropy or squared error of each lane; a backward pass needs its gradient alone.

    Args:
        courses: The lanes' own.
        device: Where outputs are.
    """

    def __init__(self, courses: Sequence[Course], device: torch.device) -> None:
        data = courses[0].data
        self.regression = data.task == "regression"
        scales = torch.tensor([course.scale for course in courses], dtype=torch.float32, device=device)
        self.mean, self.std = scales[:, :1], scales[:, 1:]
        smoothing = [0.0 if self.regression else float(course.config["label_smoothing"]) for course in courses]
        self.smoothing = torch.tensor(smoothing, device=device)[:, None, None] if any(smoothing) else None
        weights = [course.class_weights for course in courses]
        self.weights = None
        if any(weight is not None for weight in weights):
            ones = torch.ones(data.outputs, device=device)
            self.weights = torch.stack([ones if weight is None else weight for weight in weights])

    def backward(self, outputs: Tensor, y: Tensor) -> None:
        """Run the backward pass of every lane's mean loss.

        Args:
            outputs: (L, B, K).
            y: Class indices or values, (L, B).
        """
        if self.regression:
            gradient = (outputs.detach().squeeze(2) - (y - self.mean) / self.std) * (2 / y.shape[1])
            torch.autograd.backward([outputs], [gradient[:, :, None]])
        else:
            torch.autograd.backward([outputs.log_softmax(2)], [-self._targets(outputs, y)])

    def _targets(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Return what each log-probability (L, B, K) counts for in the mean loss.

        As in torch's cross_entropy: a share of the target is spread over the classes, the class weights multiply it,
        and the mean is over the weights of the samples' own classes.
        """
        lanes, samples, classes = outputs.shape
        targets = torch.zeros_like(outputs).scatter_(2, y[:, :, None], 1.0)
        if self.smoothing is not None:
            targets = targets * (1 - self.smoothing) + self.smoothing / classes
        if self.weights is None:
            return targets.div_(samples)
        weights = self.weights[:, None].expand(lanes, samples, classes)
        own = weights.gather(2, y[:, :, None]).sum(1, keepdim=True)
        return targets * weights / own
