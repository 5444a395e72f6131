"""Both models at inference: one answer of two classifiers, from what they say and how they did on validation rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .models import Answers

_LEANING = 5.0
"""So many rows of each class count as confused without a pattern, for classes with few validation rows."""


@dataclass(frozen=True)
class Validation:
    """What both models answered to the validation rows, and what is right."""

    old: Answers
    new: Answers
    references: Sequence[str]


def in_classes(answers: Answers, classes: Sequence[str]) -> Answers:
    """Return logits in the order of other classes, minus infinity where a model does not know one."""
    logits = np.full((len(answers.logits), len(classes)), -np.inf, dtype=np.float32)
    known = [classes.index(name) for name in answers.classes]
    logits[:, known] = answers.logits
    return Answers(logits, list(classes))


def surer(old: Answers, new: Answers, _: Validation) -> Answers:
    """Let the model answer whose likeliest class is likelier; the new one where they are as sure."""
    old = in_classes(old, new.classes)
    is_old = old.probabilities.max(-1) > new.probabilities.max(-1)
    return Answers(np.where(is_old[:, None], old.logits, new.logits), new.classes)


def product(old: Answers, new: Answers, _: Validation) -> Answers:
    """Multiply both models' probabilities; a class that the old model does not know has the new model's alone."""
    theirs, ours = (np.log(each.probabilities + 1e-12) for each in (in_classes(old, new.classes), new))
    knows = np.isin(new.classes, old.classes)
    return Answers(np.where(knows, theirs + ours, 2 * ours).astype(np.float32), new.classes)


def mean(old: Answers, new: Answers, _: Validation) -> Answers:
    """Take the mean of both models' probabilities; a class that the old model does not know has the new model's."""
    theirs, ours = in_classes(old, new.classes).probabilities, new.probabilities
    both = np.where(np.isin(new.classes, old.classes), (theirs + ours) / 2, ours)
    return Answers(np.log(both + 1e-12).astype(np.float32), new.classes)


def latent_truth(old: Answers, new: Answers, held: Validation) -> Answers:
    """Take the likeliest class behind both answers, by how often either model takes one class for another.

    p(y | a, b) is proportional to p(y) P_old(a | y) P_new(b | y): errors are taken for independent, given the truth.
    """
    classes = new.classes
    truth = np.array([classes.index(name) for name in held.references])
    prior = np.bincount(truth, minlength=len(classes)) + 1.0
    total: NDArray[Any] = np.log(prior / prior.sum())[None]
    for answers, known in ((old, held.old), (new, held.new)):
        confusion = _confusion(in_classes(known, classes).logits.argmax(-1), truth, len(classes))
        total = total + np.log(confusion[:, in_classes(answers, classes).logits.argmax(-1)]).T
    return Answers(total.astype(np.float32), classes)


def _confusion(answered: NDArray[Any], truth: NDArray[Any], classes: int) -> NDArray[Any]:
    """Return how often a class, a row, is answered by each class."""
    right = (float((answered == truth).sum()) + 0.5) / (len(truth) + 1)
    counts = np.full((classes, classes), _LEANING * (1 - right) / (classes - 1))
    np.fill_diagonal(counts, _LEANING * right)
    np.add.at(counts, (truth, answered), 1)
    return np.asarray(counts / counts.sum(1, keepdims=True))


WAYS: dict[str, Callable[[Answers, Answers, Validation], Answers]] = {
    "surer": surer,
    "product": product,
    "mean": mean,
    "latent truth": latent_truth,
}
