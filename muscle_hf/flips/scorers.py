"""Scores of free texts against right ones, and the smooth flips between two models' texts.

Every scorer gives 0 to 1, so that one tolerance means the same for all of them. The numbers are those of kept
libraries: F-measures of rouge_score without stemming, and sentence BLEU and chrF of sacrebleu divided by 100. None is
no answer and scores 0.

Paper: MUSCLE (Echterhoff 2024, arXiv 2407.09435, section 3.2), which measures ROUGE-1 on SAMSum.
"""

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..packages import not_installed
from .inputs import take_answers
from .score_comparison import ScoreComparison, compare_scores

__all__ = ["SCORERS", "compare_smooth", "score_texts"]

_Scorer: TypeAlias = Callable[[str, str], float]

# 2pr/(p+r) of two answers with equal F-measures may differ in the last bit, and without a tolerance that is a flip.
_DECIMALS = 12


def _exact_match() -> _Scorer:
    return lambda answer, reference: float(answer == reference)


def _rouge(name: str) -> _Scorer:
    rouge = _library("rouge_score.rouge_scorer").RougeScorer([name], use_stemmer=False)
    return lambda answer, reference: float(rouge.score(reference, answer)[name].fmeasure)


def _bleu() -> _Scorer:
    # Without the effective order every answer of under four words would be near 0.
    bleu = _library("sacrebleu.metrics").BLEU(effective_order=True)
    return lambda answer, reference: float(bleu.sentence_score(answer, [reference]).score / 100)


def _chrf() -> _Scorer:
    chrf = _library("sacrebleu.metrics").CHRF()
    return lambda answer, reference: float(chrf.sentence_score(answer, [reference]).score / 100)


_MAKERS: dict[str, Callable[[], _Scorer]] = {
    "exact_match": _exact_match,
    "rouge1": partial(_rouge, "rouge1"),
    "rouge2": partial(_rouge, "rouge2"),
    "rougeL": partial(_rouge, "rougeL"),
    "bleu": _bleu,
    "chrf": _chrf,
}

SCORERS = tuple(_MAKERS)
"""The names of the scorers."""


def score_texts(*, answers: Sequence[Any], references: Sequence[Any], scorer: str) -> NDArray[np.float64]:
    """Score each answer against the right text.

    Args:
        answers: A model's texts, shape (n,); None where it gave no answer, which scores 0 with every scorer.
        references: The right texts, one for each answer, in the same order; never None.
        scorer: One of `SCORERS`. "exact_match" compares the texts as they are, without any normalisation; "rouge1",
            "rouge2" and "rougeL" are F-measures over lower-case words of a-z and 0-9; "bleu" is sentence BLEU (13a
            tokens, exponential smoothing, effective order), "chrf" is chrF2.

    Returns:
        The scores, shape (n,), 0 to 1, rounded to 12 decimals, so that ties are equal.

    Raises:
        InputError: An unknown scorer, nothing to score, unequal lengths, anything but texts, a reference of None.
        MissingPackageError: The library of the scorer is not installed.

    Example:
        >>> from muscle_hf.flips.scorers import score_texts
        >>> score_texts(answers=["the cat", None], references=["the cat", "the cat"], scorer="exact_match")
        array([1., 0.])
    """
    _check_name(scorer)
    _check_texts("answers", answers)
    _check_texts("references", references)
    texts, right = take_answers(answers=answers, references=references)
    score = _MAKERS[scorer]()
    scores = [0.0 if text is None else score(text, reference) for text, reference in zip(texts, right, strict=True)]
    return np.round(scores, _DECIMALS)


def compare_smooth(
    *,
    old: Sequence[Any],
    new: Sequence[Any],
    references: Sequence[Any] | None = None,
    scorer: str | None = None,
    tolerance: float = 0.0,
) -> ScoreComparison:
    """Compare two models by how good each of their texts is, or by scores that are there already.

    Implements the smooth flips of MUSCLE (arXiv 2407.09435, section 3.2).

    Args:
        old: The old model's texts, with None where it gave no answer; or, without a scorer, its scores (finite
            numbers, higher is better).
        new: The same of the new model, on the same instances in the same order.
        references: The right texts, one for each instance; only with a scorer.
        scorer: What scores the texts, one of `SCORERS`; None takes `old` and `new` as scores.
        tolerance: Changes up to this size count as none. Scorers give 0 to 1, so 0.01 is one point of ROUGE.

    Returns:
        The comparison of the scores.

    Raises:
        InputError: Texts without a scorer or without references, scores with either, and what `score_texts` and
            `compare_scores` refuse.
        MissingPackageError: The library of the scorer is not installed.

    Example:
        >>> from muscle_hf.flips.scorers import compare_smooth
        >>> old, new = ["Rome", "Oslo"], ["Rom", "Oslo"]
        >>> c = compare_smooth(old=old, new=new, references=["Rome", "Riga"], scorer="exact_match")
        >>> c.negative_flip_rate, c.mean_regression
        (0.5, 1.0)
        >>> compare_smooth(old=[0.25, 0.5], new=[0.5, 0.5]).positive_flip_rate
        0.5
    """
    if scorer is not None:
        _check_name(scorer)
        if references is None:
            raise InputError(f"scorer {scorer!r} compares with the right texts: pass references, one for each answer")
        before, after = (score_texts(answers=answers, references=references, scorer=scorer) for answers in (old, new))
        return compare_scores(old=before, new=after, tolerance=tolerance)
    if any(isinstance(value, str) for value in chain(old, new)):
        raise InputError(f"the answers are texts, but no scorer is named: pass scorer, one of {', '.join(SCORERS)}")
    if references is not None:
        raise InputError(
            "references are given, but no scorer that would use them: leave them out where the answers are scores "
            f"already; or pass texts and scorer, one of {', '.join(SCORERS)}"
        )
    return compare_scores(old=old, new=new, tolerance=tolerance)


def _check_name(scorer: str) -> None:
    if not isinstance(scorer, str) or scorer not in _MAKERS:
        raise InputError(f"there is no scorer {scorer!r}; the scorers are: {', '.join(SCORERS)}")


def _check_texts(name: str, values: Sequence[Any]) -> None:
    for index, value in enumerate(values):
        if not isinstance(value, str) and value is not None:
            hint = (
                "a missing answer is None, not NaN"
                if isinstance(value, float) and value != value
                else "leave the scorer out where the answers are scores already"
                if isinstance(value, (int, float))
                else "pass one string for each instance"
            )
            raise InputError(f"{name}[{index}] is {value!r}, but a scorer takes texts: {hint}")


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise not_installed(f"a scorer of {module.partition('.')[0]}", [str(error.name)], "scorers") from error
