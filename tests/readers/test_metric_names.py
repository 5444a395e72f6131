"""Names of metrics: which of them grade and do not tell right from wrong, and which way is better."""

import pytest

from muscle_hf.readers.metric_names import higher_is_better, is_grade, is_right_or_wrong

GRADES = (
    *("f1", "qa_f1_score", "mf1", "loglikelihood_f1", "f1_score_macro", "f1_score_quasi", "F1-Radgraph", "mcc", "mrr"),
    *("rouge1", "rougeL", "rougeLsum", "rouge_t5", "rouge1_max", "rougeL_diff", "bleu", "bleu_4", "bleu_max", "chrf"),
    *("chrf++", "ter", "wer", "bert_score", "bertscore_f1", "BERTScore-F", "bleurt", "meteor", "comet", "summac"),
    *("perplexity", "word_perplexity", "byte_perplexity", "ppl", "bits_per_byte", "brier_score", "likelihood"),
    *("likelihood_diff", "truthfulqa_mc2", "mc2", "edit_distance", "edit_similarity", "code_sim_score", "loss", "nll"),
    *("summarization_coverage", "precision", "recall", "rmse", "pearsonr"),
)
RIGHT_OR_WRONG = (
    *(
        "acc",
        "acc_norm",
        "acc_bytes",
        "acc_mutual_info",
        "accuracy",
        "exact_match",
        "em",
        "qem",
        "perfect_em",
        "pass@1",
    ),
    *("exact_match_original", "rouge1_acc", "bleu_acc", "loglikelihood_acc", "loglikelihood_acc_norm_nospace", "mc1"),
    *("acc_golds_likelihood", "truthfulqa_mc1", "prompt_level_strict_acc", "extractive_match", "math_verify", "score"),
    *("recall@1", "maj@8", "gpqa_pass@k", "non_greedy_accuracy", "pct_stereotype", "is_included", "contains", "terse"),
)


@pytest.mark.parametrize("metric", GRADES)
def test_a_metric_that_grades_is_known(metric: str) -> None:
    assert is_grade(metric)


@pytest.mark.parametrize("metric", RIGHT_OR_WRONG)
def test_a_metric_that_tells_right_from_wrong_is_no_grade(metric: str) -> None:
    assert not is_grade(metric)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("truthfulqa_mc2", True),
        ("truthfulqa_ar_mc2", True),
        ("truthfulqa-multi_mc2_es", True),
        ("leaderboard|truthfulqa:mc2|0", True),
        ("truthfulqa_mc1", False),
        ("emc2", False),
        ("mc20", False),
    ],
)
def test_the_accuracy_of_truthfulqa_with_several_right_choices_is_a_grade(task: str, expected: bool) -> None:
    assert is_grade("acc", task) == expected
    assert not is_grade("acc_norm", task)


@pytest.mark.parametrize(
    "metric",
    ["perplexity", "word_perplexity", "bits_per_byte", "brier_score", "ter", "wer", "ppl", "edit_distance", "loss"],
)
def test_lower_is_better_of_these_without_a_results_file(metric: str) -> None:
    assert higher_is_better(metric) is False


@pytest.mark.parametrize(
    "metric", ["acc", "exact_match", "em", "f1", "rougeL", "bleu", "chrf++", "pass@1", "loss_acc"]
)
def test_lower_is_not_better_of_these(metric: str) -> None:
    assert higher_is_better(metric) is not False


def test_only_names_that_say_so_tell_right_from_wrong() -> None:
    assert [name for name in ("exact_match", "pass@1", "helpfulness") if is_right_or_wrong(name)] == [
        "exact_match",
        "pass@1",
    ]
    assert [name for name in ("acc", "rougeL", "rouge1_acc", "f1", "em", "recall@1") if is_grade(name)] == [
        "rougeL",
        "f1",
    ]
    assert is_grade("acc", "truthfulqa_mc2")
    assert [higher_is_better(name) for name in ("acc_norm", "word_perplexity", "bias_score")] == [True, False, None]
