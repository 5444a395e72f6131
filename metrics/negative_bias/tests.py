"""Cases with known results, in the form of evaluate's module template; what is no input is an option of compute."""

nan = float("nan")

# GPT-4 in March and in June 2023 on "Is N a prime number?" (LLMDrift): right answer, March, June, how many of 1,000.
_PRIMES = [
    ("yes", "yes", "yes", 12),
    ("yes", "yes", "no", 476),
    ("yes", "no", "no", 9),
    ("yes", None, "no", 3),
    ("no", "no", "no", 352),
    ("no", "yes", "no", 146),
    ("no", "yes", "yes", 1),
    ("no", None, "no", 1),
]
_references, _old_predictions, _predictions = (
    [row[place] for row in _PRIMES for _ in range(row[3])] for place in range(3)
)

test_cases = [
    {
        "predictions": _predictions,
        "old_predictions": _old_predictions,
        "references": _references,
        "result": {
            "bias": 0.974,
            "old_bias": -0.276,
            "shift": 1.25,
            "accuracy": 0.511,
            "old_accuracy": 0.84,
            "false_negative_rate": 0.976,
            "old_false_negative_rate": 0.018,
            "false_positive_rate": 0.002,
            "old_false_positive_rate": 0.294,
            # z(12.5 / 501) - z(1.5 / 501), and so on.
            "sensitivity": 0.78761797,
            "old_sensitivity": 2.50136187,
            "criterion": 2.35462748,
            "old_criterion": -0.71013756,
            "negative_flips": 476,
            "positive_flips": 147,
            "p_value": 2 * 0.5**622,
            "broken_to_negative": 476,
            "broken_to_positive": 0,
            "no_answers": 0,
            "old_no_answers": 4,
        },
    },
    # Class ids, with what the model knows: H = 2.5 / 4 and F = 0.5 / 2 now.
    {
        "predictions": [1, 1, 0, 0],
        "old_predictions": [1, 0, 1, None],
        "references": [1, 1, 1, 0],
        "knowledge": ["correct", "correct", "incorrect", "incorrect"],
        "positive": 1,
        "negative": 0,
        "result": {
            "bias": 1 / 3,
            "old_bias": 1 / 3,
            "shift": 0.0,
            "negative_flips": 1,
            "positive_flips": 2,
            "p_value": 1.0,
            "broken_to_negative": 1,
            "broken_to_positive": 0,
            "old_no_answers": 1,
            "sensitivity": 0.31863936 + 0.67448975,
            "criterion": -(0.31863936 - 0.67448975) / 2,
            "correct_examples": 2,
            "correct_bias": nan,
            "correct_shift": nan,
            "incorrect_examples": 2,
            "incorrect_bias": 1.0,
            "incorrect_shift": 1.0,
            "insufficient_examples": 0,
            "insufficient_bias": nan,
            "insufficient_shift": nan,
        },
    },
    # Labels in several spellings; "Maybe" is neither.
    {
        "predictions": ["Yes.", "no", "Maybe", "No."],
        "old_predictions": ["yes", "yes", "no", "Yes."],
        "references": ["yes", "yes", "no", "no"],
        "positive": ["yes", "Yes."],
        "negative": ["no", "No."],
        "result": {"bias": 0.5, "old_bias": -0.5, "shift": 1.0, "no_answers": 1, "broken_to_negative": 1},
    },
    # One class of right answers: the shares that exist are there, and no 0 where nothing is defined.
    {
        "predictions": ["no", "yes"],
        "old_predictions": ["yes", "yes"],
        "references": ["yes", "yes"],
        "result": {
            "bias": nan,
            "old_bias": nan,
            "shift": nan,
            "accuracy": 0.5,
            "false_negative_rate": 0.5,
            "old_false_negative_rate": 0.0,
            "false_positive_rate": nan,
            "sensitivity": nan,
            "criterion": nan,
        },
    },
]
