"""Scorers of texts: worked-out numbers, the libraries called directly, and what must hold of any two models."""

import math
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from muscle_hf import ConfigurationError, InputError, compare, compare_scores
from muscle_hf.flips.scorers import SCORERS, compare_smooth, score_texts

pytestmark = pytest.mark.slow

scorers = st.sampled_from(SCORERS)

# Few words, so that texts overlap; and what texts of models have beside words.
words = st.lists(st.sampled_from(["the", "cat", "sat", "The", "42", "mat.", "don't", "ça", "猫"]), max_size=8)
texts = words.map(" ".join)
answers = st.none() | texts
triples = st.lists(st.tuples(answers, answers, texts), min_size=1, max_size=12)


def _score(answer: str | None, reference: str, scorer: str) -> float:
    return float(score_texts(answers=[answer], references=[reference], scorer=scorer)[0])


# Worked-out numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scorer", "answer", "reference", "expected"),
    [
        ("exact_match", "Paris", "Paris", 1.0),
        ("exact_match", "paris", "Paris", 0.0),
        ("exact_match", "Paris ", "Paris", 0.0),
        # 5 words of 6 and 6 are shared (a second "the" of the reference is not): P = R = 5/6.
        ("rouge1", "The cat sat on a mat!", "the cat sat on the mat", 5 / 6),
        # 2 of 3 words and of 6: F = 2 * 2 / (3 + 6).
        ("rouge1", "a cat sat", "the cat sat on the mat", 4 / 9),
        # A word counts as often as both have it: 1 of 3, 1 of 2.
        ("rouge1", "cat cat cat", "the cat", 2 / 5),
        # No stemming: "cats" is not "cat".
        ("rouge1", "cats", "cat", 0.0),
        # Pairs: the cat, cat sat, sat on of 5 and 5.
        ("rouge2", "the cat sat on a mat", "the cat sat on the mat", 3 / 5),
        ("rouge2", "cat", "cat", 0.0),
        # Longest common subsequence "the cat on mat" without regard to gaps: 4 of 4 and of 6.
        ("rougeL", "the cat on mat", "the cat sat on the mat", 8 / 10),
        # Order counts: of "b a" only one word is in order.
        ("rougeL", "b a", "a b", 1 / 2),
        ("rouge1", "b a", "a b", 1.0),
        # n-grams 5/6, 3/5, 2/4, 1/3; same length, so no brevity penalty.
        ("bleu", "the cat sat on a mat", "the cat sat on the mat", (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25),
        # Two words of four: 1-grams 2/2, 2-grams 1/1, no more orders; brevity exp(1 - 4/2).
        ("bleu", "the cat", "the cat sat down", math.exp(-1)),
        # Exponential smoothing: no pair matches, so 1 / (2 * 1) instead of 0 / 1.
        ("bleu", "cat the", "the cat", math.sqrt(1 / 2)),
        ("bleu", "cat", "cat", 1.0),
        # Characters 2/3 and 2/3, pairs 1/2 and 1/2, no triple; orders 1 to 3 count: P = R = F = (2/3 + 1/2 + 0) / 3.
        ("chrf", "abd", "abc", (2 / 3 + 1 / 2) / 3),
        # Characters: P 1/1, R 1/2; no pairs in the answer, so one order: F2 = 5 * 1 * 1/2 / (4 * 1 + 1/2).
        ("chrf", "a", "ab", 5 / 9),
    ],
)
def test_a_scorer_gives_what_its_definition_says(scorer: str, answer: str, reference: str, expected: float) -> None:
    assert _score(answer, reference, scorer) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scorer", SCORERS)
def test_no_answer_scores_0_with_every_scorer_even_where_an_empty_text_is_right(scorer: str) -> None:
    assert _score(None, "a b", scorer) == 0
    assert _score(None, "", scorer) == 0
    assert _score("", "a b", scorer) == 0


@settings(max_examples=200)
@given(scorer=scorers, answer=texts, reference=texts)
def test_scores_are_those_of_the_libraries(scorer: str, answer: str, reference: str) -> None:
    direct: dict[str, Callable[[], float]] = {
        "exact_match": lambda: float(answer == reference),
        "bleu": lambda: sacrebleu.sentence_bleu(answer, [reference]).score / 100,
        "chrf": lambda: sacrebleu.sentence_chrf(answer, [reference]).score / 100,
    }
    if scorer.startswith("rouge"):
        expected = RougeScorer([scorer], use_stemmer=False).score(reference, answer)[scorer].fmeasure
    else:
        expected = direct[scorer]()
    assert _score(answer, reference, scorer) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=200)
@given(scorer=scorers, answer=texts, reference=texts)
def test_every_scorer_stays_within_0_and_1_so_that_one_tolerance_fits_all(
    scorer: str, answer: str, reference: str
) -> None:
    # sacrebleu alone gives 100.00000000000004 for a text that is right.
    assert 0 <= _score(answer, reference, scorer) <= 1
    assert _score(reference, reference, scorer) in (0, 1)


def test_texts_of_equal_rouge_are_no_flips_by_rounding() -> None:
    def text(shared: int, length: int) -> str:
        return " ".join(["a"] * shared + ["b"] * (length - shared))

    seen: dict[tuple[int, Fraction], set[float]] = {}
    plain: dict[tuple[int, Fraction], set[float]] = {}
    for size in range(1, 16):
        for length in range(1, 16):
            for shared in range(1, min(size, length) + 1):
                key = size, Fraction(2 * shared, length + size)
                answer, reference = text(shared, length), " ".join(["a"] * size)
                seen.setdefault(key, set()).add(_score(answer, reference, "rouge1"))
                plain.setdefault(key, set()).add(RougeScorer(["rouge1"]).score(reference, answer)["rouge1"].fmeasure)
    assert any(len(values) > 1 for values in plain.values()), "the library has no such ties; drop the rounding"
    assert all(len(values) == 1 for values in seen.values())


# Two models --------------------------------------------------------------------------------


@given(scorer=scorers, rows=triples)
def test_identical_texts_never_flip(scorer: str, rows: list[tuple[str | None, str | None, str]]) -> None:
    old, _, references = zip(*rows, strict=True)
    compared = compare_smooth(old=old, new=old, references=references, scorer=scorer)
    assert compared.flip_rate == 0
    assert compared.mean_change == 0
    assert compared.p_value == 1
    assert math.isnan(compared.mean_gain)
    assert math.isnan(compared.mean_regression)


@given(scorer=scorers, rows=triples, tolerance=st.sampled_from([0.0, 0.05, 0.25]))
def test_swapping_the_models_swaps_gains_and_regressions(
    scorer: str, rows: list[tuple[str | None, str | None, str]], tolerance: float
) -> None:
    old, new, references = zip(*rows, strict=True)
    there = compare_smooth(old=old, new=new, references=references, scorer=scorer, tolerance=tolerance)
    back = compare_smooth(old=new, new=old, references=references, scorer=scorer, tolerance=tolerance)
    assert there.negative_flips.tolist() == back.positive_flips.tolist()
    assert there.positive_flips.tolist() == back.negative_flips.tolist()
    assert there.mean_gain == pytest.approx(back.mean_regression, nan_ok=True)
    assert there.mean_change == pytest.approx(-back.mean_change)
    assert there.mean_change == pytest.approx(there.new_mean - there.old_mean)
    assert there.p_value == pytest.approx(back.p_value)


@given(scorer=scorers, rows=triples)
def test_a_larger_tolerance_never_adds_a_flip(scorer: str, rows: list[tuple[str | None, str | None, str]]) -> None:
    old, new, references = zip(*rows, strict=True)
    flips = [
        compare_smooth(old=old, new=new, references=references, scorer=scorer, tolerance=tolerance)
        for tolerance in (0.0, 0.01, 0.1, 0.5, 1.0)
    ]
    for tight, loose in pairwise(flips):
        assert set(loose.negative_flips) <= set(tight.negative_flips)
        assert set(loose.positive_flips) <= set(tight.positive_flips)
        assert loose.mean_change == tight.mean_change
    assert flips[-1].flip_rate == 0, "no score between 0 and 1 moves by more than 1"


@given(rows=triples)
def test_exact_match_flips_are_those_of_compare(rows: list[tuple[str | None, str | None, str]]) -> None:
    old, new, references = zip(*rows, strict=True)
    smooth = compare_smooth(old=old, new=new, references=references, scorer="exact_match")
    plain = compare(old=old, new=new, references=references)
    assert smooth.negative_flips.tolist() == plain.negative_flips.tolist()
    assert smooth.positive_flips.tolist() == plain.positive_flips.tolist()


@settings(max_examples=50)
@given(rows=st.lists(st.tuples(st.floats(-9, 9), st.integers(-9, 9)), min_size=1), tolerance=st.floats(0, 2))
def test_plain_scores_are_compared_as_they_are(rows: list[tuple[float, int]], tolerance: float) -> None:
    old, new = map(list, zip(*rows, strict=True))
    ours, theirs = (
        compared(old=old, new=new, tolerance=tolerance)  # type: ignore[operator]
        for compared in (compare_smooth, compare_scores)
    )
    assert ours.negative_flips.tolist() == theirs.negative_flips.tolist()
    assert ours.mean_change == theirs.mean_change


def test_scores_are_plain_64_bit_floats() -> None:
    scores = score_texts(answers=["a", None], references=np.array(["a", "b"]), scorer="bleu")
    assert scores.dtype == np.float64
    assert scores.tolist() == [1.0, 0.0]


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"old": ["a"], "new": ["a"], "references": ["a"], "scorer": "ROUGE1"}, "no scorer 'ROUGE1'; the scorers are"),
        ({"old": ["a"], "new": ["a"], "references": ["a"], "scorer": 1}, "no scorer 1"),
        ({"old": ["a"], "new": ["a"], "scorer": "bleu"}, "pass references"),
        ({"old": ["a"], "new": ["a"], "references": ["a"]}, "no scorer is named"),
        ({"old": [0.5], "new": ["a"]}, "no scorer is named"),
        ({"old": [0.5], "new": [1], "references": ["a"]}, "leave them out where the answers are scores"),
        (
            {"old": [0.5], "new": ["a"], "references": ["a"], "scorer": "bleu"},
            r"answers\[0\] is 0.5, .* leave the scorer",
        ),
        ({"old": ["a"], "new": [math.nan], "references": ["a"], "scorer": "bleu"}, "None, not NaN"),
        ({"old": ["a"], "new": [["a"]], "references": ["a"], "scorer": "bleu"}, "one string for each instance"),
        ({"old": ["a"], "new": ["a"], "references": [["a"]], "scorer": "bleu"}, r"references\[0\] is \['a'\]"),
        ({"old": ["a"], "new": ["a"], "references": [None], "scorer": "bleu"}, "needs a right answer"),
        ({"old": ["a"], "new": ["a", "b"], "references": ["a"], "scorer": "bleu"}, "answers has 2, references has 1"),
        ({"old": [], "new": [], "references": [], "scorer": "bleu"}, "are empty"),
        ({"old": [], "new": []}, "are empty"),
        ({"old": "ab", "new": "ab", "references": "ab", "scorer": "bleu"}, "must be a list or array"),
        ({"old": [None], "new": [0.5]}, "is None, but every score"),
    ],
)
def test_what_would_be_scored_wrong_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_smooth(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scorer", "library"), [("rougeL", "rouge_score"), ("bleu", "sacrebleu"), ("chrf", "sacrebleu")]
)
def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    scorer: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (library, f"{library}.rouge_scorer", f"{library}.metrics"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=rf'needs {library}.*pip install "muscle_hf\[scorers\]"'):
        _score("a", "a", scorer)
    assert _score("a", "a", "exact_match") == 1


def test_the_libraries_are_loaded_only_when_a_text_is_scored() -> None:
    code = (
        "import sys\n"
        "from muscle_hf.flips.scorers import compare_smooth\n"
        "compare_smooth(old=[0.5], new=[1.0])\n"
        "compare_smooth(old=['a'], new=['a'], references=['a'], scorer='exact_match')\n"
        "print(*[name for name in ('rouge_score', 'sacrebleu', 'nltk', 'torch') if name in sys.modules])\n"
        "for scorer in ('rouge1', 'bleu', 'chrf'):\n"
        "    compare_smooth(old=['a'], new=['a'], references=['a'], scorer=scorer)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.split("\n") == ["", "False", ""]
    assert done.stderr == "", "a warning or a log line where nothing is wrong"
