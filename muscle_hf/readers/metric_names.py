"""What the name of a metric says: whether it tells right from wrong or gives a grade, and which way is better."""

import re

_RIGHT_OR_WRONG = {"acc", "accuracy", "exact", "em", "pass", "passed", "match", "correct", "correctness", "right"}
_RIGHT_OR_WRONG |= {"success", "solved", "resolved", "valid", "verify", "verified", "contains", "included", "mc1"}
_GRADES = {
    *("f1", "mf1", "fscore", "mcc", "mrr", "ndcg", "map", "anls", "iou", "precision", "recall", "mc2"),
    *("ter", "wer", "cer", "mer", "ppl", "nll", "loss", "bpb", "logprob", "logprobs", "prob", "probability"),
    *("bert", "summac", "similarity", "sim", "distance", "density", "coverage", "compression"),
    *("mae", "mse", "rmse", "ece", "pearson", "pearsonr", "spearman", "spearmanr"),
}
_KINDS_OF_GRADES = (
    "rouge",
    "bleu",
    "chrf",
    "bertscore",
    "meteor",
    "comet",
    "perplex",
    "likelihood",
    "loglik",
    "brier",
)
_LOWER = {"ter", "wer", "cer", "mer", "ppl", "nll", "loss", "bpb", "distance", "mae", "mse", "rmse", "ece"}
_KINDS_OF_LOWER = ("perplex", "brier")
_BITS = re.compile(r"bits?[_ -]?per[_ -]?byte", re.IGNORECASE)
_HIGHER = re.compile(r"acc|exact_match|pass@|rouge|bleu|chrf|prompt_level_|(em|f1|mcc)$")
# Of TruthfulQA with several right choices, "acc" is their share of the probability.
_MASS = re.compile(r"(^|[^a-z0-9])mc2([^a-z0-9]|$)", re.IGNORECASE)


def is_grade(metric: str, task: str = "") -> bool:
    """Tell whether a metric is known by its name to give grades, so that 0 and 1 are no wrong and right answers.

    Others may be grades as well, which their values show. Some tasks have a metric of another kind under a usual name.
    """
    parts = _parts(metric)
    if _MASS.search(task) and parts == ["acc"]:
        return True
    if is_right_or_wrong(metric):
        return False
    return bool(
        _BITS.search(metric) or _GRADES.intersection(parts) or any(part.startswith(_KINDS_OF_GRADES) for part in parts)
    )


def is_right_or_wrong(metric: str) -> bool:
    """Tell whether a metric is known to tell right answers from wrong ones."""
    # "@1" counts whether there is one right answer among so many.
    return bool(_RIGHT_OR_WRONG.intersection(_parts(metric)) or re.search(r"@\d", metric))


def higher_is_better(metric: str) -> bool | None:
    """Tell which way a metric is better, by its name; None where the name does not say it."""
    parts = _parts(metric)
    if not _RIGHT_OR_WRONG.intersection(parts) and (
        _BITS.search(metric) or _LOWER.intersection(parts) or any(part.startswith(_KINDS_OF_LOWER) for part in parts)
    ):
        return False
    return True if _HIGHER.match(metric) else None


def _parts(metric: str) -> list[str]:
    return re.findall(r"[a-z]+\d*", metric.lower())
