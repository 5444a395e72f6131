"""The compatibility loss of classifiers: class logits of three models, whose classes need not be the same.

The loss is that of [`compatibility_loss`] (MUSCLE, arXiv 2407.09435, Eq. 1), with an instance, or a word, in place of
a token. What is added here is what it means that the two models do not know the same classes:

- A class that was *added* has probability 0 under the old model. A forward KL and a Jensen-Shannon divergence are
  finite all the same. A reverse KL would be infinite, and a difference of logits too: they look only at the classes
  that the teacher knows, the student's probabilities renormalised over them.
- A class that was *removed* is no answer any more: the old model's probabilities are renormalised over the others. An
  instance for which the old model answers a removed class is one that it gets wrong.
- An instance whose *gold class is an added one* learns from the new model, whatever the mask says: the old model gets
  it wrong by definition, and would teach the student to rule the right answer out.

And what it means that nobody knows the class of an instance, a row of `unlabelled_dataset`:

- It learns from the model that `unlabelled_teacher` names, whatever the mask says, and by the divergence alone: no
  part of the loss is cross-entropy. What that model answers stands in for the gold class in all figures. One that the
  *new model takes for an added class* learns from the new model.
- Where a log has the old model's answer, that is learned by cross-entropy alone, without a part of the dice loss.
"""

import math
from functools import partial

import torch
from torch import Tensor

from ..errors import ModelMismatchError
from ..losses.compatibility import NEW, OLD, PRODUCT, CompatibilityLoss, loss_of_tokens
from ..losses.divergences import Divergence, divergence_of_logits
from ..losses.logits import IGNORE_INDEX, gold_log_probability, log_softmax
from ..losses.masks import LogitScores, Scores, StoredScores
from ..losses.product import product_of_logits
from ..losses.strategy import Strategy
from .data import UNANSWERED
from .dice import DiceTerm
from .labels import ClassMap

# Divergences that are infinite where the student gives mass to a class that the teacher rules out.
_NEED_SUPPORT = ("reverse_kl", "logit_difference_inhibition")


class OldClasses:
    """The old model's logits and answers, in the classes of the new model."""

    def __init__(self, classes: ClassMap) -> None:
        """Turn the map into index tensors."""
        self.classes = classes
        self._old_of_new = torch.tensor(classes.old_of_new)
        # An answer that was removed gets a number behind the new model's, one of its own: wrong, but told apart.
        removed = torch.arange(len(classes.old)) + len(classes.new)
        new_of_old = torch.tensor(classes.new_of_old)
        self._new_of_old = torch.where(new_of_old < 0, removed, new_of_old)

    def logits(self, old_logits: Tensor) -> Tensor:
        """Return the old model's logits in the order of the new model's classes; -inf for classes that were added."""
        if old_logits.shape[-1] != len(self.classes.old):
            raise ModelMismatchError(
                f"The old model gives {old_logits.shape[-1]} logits and its config says {len(self.classes.old)} "
                "classes. Load it with the num_labels that it was trained with."
            )
        if self.classes.is_identity:
            return old_logits
        place = self._old_of_new.to(old_logits.device)
        return old_logits[:, place.clamp(min=0)].masked_fill(place < 0, -math.inf)

    def answers(self, old_logits: Tensor) -> Tensor:
        """Return what the old model answers, as numbers of the new model's classes.

        A removed class has a number of its own, behind the new model's.
        """
        return self._new_of_old.to(old_logits.device)[old_logits.argmax(-1)]

    def knows(self, gold: Tensor) -> Tensor:
        """Tell which gold classes, numbers of the new model, the old model knows."""
        return (self._old_of_new >= 0).to(gold.device)[gold]


def classifier_loss(
    student_logits: Tensor,
    old_logits: Tensor,
    new_logits: Tensor,
    labels: Tensor,
    *,
    old_classes: OldClasses,
    strategy: Strategy,
    normalizer: Tensor | float | None = None,
    sequence: Tensor | None = None,
    weights: Tensor | None = None,
    unlabelled: Tensor | None = None,
    unlabelled_teacher: str = "old",
    dice: DiceTerm | None = None,
) -> CompatibilityLoss:
    """Compute the compatibility loss of a batch of instances or words (MUSCLE, arXiv 2407.09435, Eq. 1 and Eq. 5).

    Where both models have the same classes it is [`compatibility_loss`]. No gradient reaches the teachers or the mask.

    Logits are float, (tokens, classes): each model's own classes, which `old_classes` brings together. Labels are
    int64, (tokens,), gold classes of the new model; -100 is not trained on. The sum over tokens is divided by
    `normalizer`, or by 1 where it is less; None stands for the tokens of this call. `sequence` is int64, (tokens,),
    the number of each word's sentence, from 0, which "sequence_likelihood" needs; None numbers each token alone.
    `weights` are float, (tokens,). `dice` takes its part in what is learned from gold classes: the cross-entropy then
    stands for (1 - m) cross-entropy + m dice.

    `unlabelled`, bool, (tokens,), marks what comes from a data set without labels: a label is then the answer of the
    old model, in a log, or `UNANSWERED` where the `unlabelled_teacher` ("old", "new", "more_confident" or "product")
    answers.
    """
    trained = labels != IGNORE_INDEX
    gold = labels[trained]
    student, raw_old, new = student_logits[trained], old_logits[trained].detach(), new_logits[trained].detach()
    old = old_classes.logits(raw_old)
    taught_by, shares = None, None
    if unlabelled is not None:
        gold, taught_by, shares = _taught(
            strategy, unlabelled[trained], unlabelled_teacher, gold, old, new, old_classes
        )
    divergence = divergence_of_logits(strategy.divergence, strategy.jensen_shannon_beta)
    weights = None if weights is None else weights[trained]
    if strategy.divergence in _NEED_SUPPORT and old_classes.classes.added:
        divergence = on_known_classes(divergence, mean_over_classes=strategy.divergence == _NEED_SUPPORT[1])
    return loss_of_tokens(
        strategy,
        Scores(
            student=LogitScores(student.detach(), gold),
            old=StoredScores(old_classes.answers(raw_old) == gold, gold_log_probability(old, gold)),
            new=LogitScores(new, gold),
            gold=gold,
            sequence=torch.arange(len(gold), device=gold.device) if sequence is None else sequence[trained],
        ),
        (student, old, new),
        divergence,
        normalizer=normalizer,
        weights=weights,
        given_teachers=torch.where(old_classes.knows(gold), 0, NEW) if taught_by is None else taught_by,
        shares=shares,
        task_term=None if dice is None else partial(_with_dice, dice, student, gold, weights, shares),
    )


def _with_dice(
    dice: DiceTerm,
    student: Tensor,
    gold: Tensor,
    weights: Tensor | None,
    shares: Tensor | None,
    cross_entropy: Tensor,
) -> Tensor:
    """Give the task term of each token; of a set each token counts by its weight.

    Those whose share is 0 have no term, and those of a log, with share 1, their cross-entropy alone: neither has a
    gold class, so neither is of the set.
    """
    if shares is None:
        return dice(cross_entropy, student, gold, weights)
    is_labelled = (shares > 0) & (shares < 1)
    counts = is_labelled.to(cross_entropy) if weights is None else weights * is_labelled
    return torch.where(is_labelled, dice(cross_entropy, student, gold, counts), cross_entropy)


def _taught(
    strategy: Strategy,
    unlabelled: Tensor,
    teacher: str,
    labels: Tensor,
    old: Tensor,
    new: Tensor,
    old_classes: OldClasses,
) -> tuple[Tensor, Tensor, Tensor]:
    """Give what stands for the gold class, whom to learn from, and the share of the cross-entropy: (tokens,) each."""
    of_old, of_new = (log_softmax(logits, 1.0).max(-1) for logits in (old, new))
    asks_old = {
        "old": torch.ones_like(unlabelled),
        "new": torch.zeros_like(unlabelled),
        "more_confident": of_old.values >= of_new.values,  # the old one where both are equally sure
        "product": torch.ones_like(unlabelled),
    }[teacher]
    asks_old = asks_old & old_classes.knows(of_new.indices)
    unanswered, of_marked, answers = labels == UNANSWERED, OLD, of_old.indices
    if teacher == "product":
        of_marked, answers = PRODUCT, product_answers(old, new, old_classes, strategy)
    gold = torch.where(unanswered, torch.where(asks_old, answers, of_new.indices), labels)
    taught_by = torch.where(old_classes.knows(gold), 0, NEW)
    of_texts = torch.where(unanswered, torch.where(asks_old, of_marked, NEW), OLD)
    taught_by = torch.where(unlabelled, of_texts, taught_by)
    shares = torch.full_like(
        new[:, 0], strategy.cross_entropy_weight, dtype=torch.promote_types(new.dtype, torch.float32)
    )
    return gold, taught_by, torch.where(unlabelled, torch.where(unanswered, 0.0, 1.0).to(shares), shares)


def product_answers(old: Tensor, new: Tensor, old_classes: OldClasses, strategy: Strategy) -> Tensor:
    """Give what the product of both models answers, or, where that is an added class, the new model: int64, (tokens,).

    Logits are float, (tokens, classes), in the new model's classes.
    """
    of_new = new.argmax(-1)
    product = product_of_logits(old, new, strategy.product_temperatures).argmax(-1)
    return torch.where(old_classes.knows(of_new), product, of_new)


def on_known_classes(divergence: Divergence, *, mean_over_classes: bool) -> Divergence:
    """Restrict a divergence to the classes that the teacher does not rule out, the student renormalised over them.

    It is then finite where teacher logits are -inf. A mean over classes becomes one over the known ones.

    Example:
        >>> from muscle_hf.losses.divergences import reverse_kl
        >>> teacher = torch.tensor([[0.0, 0.0, -math.inf]])
        >>> student = torch.tensor([[1.0, 1.0, 7.0]])  # alike on what the teacher knows
        >>> on_known_classes(reverse_kl, mean_over_classes=False)(teacher, student, 1.0)
        tensor([0.])
    """

    def restricted(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
        unknown = teacher == -math.inf
        distance = divergence(teacher, student.masked_fill(unknown, -math.inf), temperature)
        # The classes left out are 0 in the sum.
        return distance * (unknown.shape[-1] / (~unknown).sum(-1)) if mean_over_classes else distance

    return restricted
