"""Cases with known results, in the form of evaluate's module template."""

nan = float("nan")

test_cases = [
    # One answer broken, one repaired, two untouched.
    {
        "predictions": [0, 1, 1, 0],
        "old_predictions": [0, 0, 1, 1],
        "references": [0, 0, 1, 0],
        "result": {
            "negative_flip_rate": 0.25,
            "balanced_negative_flip_rate": (1 / 3 + 0) / 2,
            "positive_flip_rate": 0.25,
            "inconsistency_flip_rate": 0.25,
            "accuracy": 0.75,
            "old_accuracy": 0.75,
            "relative_negative_flip_rate": 0.25 / (0.75 * 0.25),
            "backward_trust_compatibility": 2 / 3,
            "backward_error_compatibility": 0.0,
            "negative_flip_impact": 1.0,
            "negative_flips": 1,
            "positive_flips": 1,
            "p_value": 1.0,
        },
    },
    # Strings; "7" and "007" are two answers; an answer that is missing is wrong.
    {
        "predictions": [None, "007", "yes", "no"],
        "old_predictions": ["7", "7", "yes", "maybe"],
        "references": ["7", "7", "yes", "yes"],
        "result": {
            "negative_flip_rate": 0.5,
            "balanced_negative_flip_rate": (1 + 0) / 2,
            "positive_flip_rate": 0.0,
            "inconsistency_flip_rate": 0.75,
            "accuracy": 0.25,
            "old_accuracy": 0.75,
            "relative_negative_flip_rate": 0.5 / (0.75 * 0.75),
            "backward_trust_compatibility": 1 / 3,
            "backward_error_compatibility": 1.0,
            "negative_flip_impact": 2 / 3,
            "negative_flips": 2,
            "positive_flips": 0,
            "p_value": 0.5,
        },
    },
    # Nothing flips and the new model is always right: no division by zero, and no 0 where nothing is defined.
    {
        "predictions": [1, 2],
        "old_predictions": [1, 2],
        "references": [1, 2],
        "result": {
            "negative_flip_rate": 0.0,
            "balanced_negative_flip_rate": nan,
            "positive_flip_rate": 0.0,
            "inconsistency_flip_rate": 0.0,
            "accuracy": 1.0,
            "old_accuracy": 1.0,
            "relative_negative_flip_rate": nan,
            "backward_trust_compatibility": 1.0,
            "backward_error_compatibility": nan,
            "negative_flip_impact": nan,
            "negative_flips": 0,
            "positive_flips": 0,
            "p_value": 1.0,
        },
    },
]
