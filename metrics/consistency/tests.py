"""Cases with known results, in the form of evaluate's module template."""

nan = float("nan")

test_cases = [
    # Agreement 3 of 4; by chance 2/4 * 3/4 + 2/4 * 1/4 = 1/2; kappa (3/4 - 1/2) / (1 - 1/2).
    {
        "predictions": ["yes", "no", "no", "yes"],
        "old_predictions": ["yes", "no", "yes", "yes"],
        "result": {"agreement": 0.75, "kappa": 0.5},
    },
    {
        "predictions": [1, 2, 0, 3],
        "old_predictions": [1, 2, 3, 3],
        "references": [1, 2, 3, 0],
        # By chance: 1/4 * 1/4 for the answers 1 and 2, 1/4 * 2/4 for the answer 3.
        "result": {
            "agreement": 0.75,
            "kappa": (0.75 - 0.25) / (1 - 0.25),
            "correct_agreement": 2 / 3,
            "backward_error_compatibility": 1.0,
            "negative_flip_impact": 0.5,
            "error_agreement": 1.0,
        },
    },
    # Both wrong three times, once with the same answer; the old model is never right.
    {
        "predictions": ["a", "b", "c"],
        "old_predictions": ["a", "c", "d"],
        "references": ["x", "y", "z"],
        "result": {
            "agreement": 1 / 3,
            "correct_agreement": nan,
            "backward_error_compatibility": 1.0,
            "negative_flip_impact": 0.0,
            "error_agreement": 1 / 3,
        },
    },
    # Always right, both: there is no error to keep or to be new.
    {
        "predictions": [1, 2],
        "old_predictions": [1, 2],
        "references": [1, 2],
        "result": {"correct_agreement": 1.0, "backward_error_compatibility": nan, "negative_flip_impact": nan},
    },
    # One and the same answer everywhere: agreement by chance is certain, so kappa says nothing.
    {"predictions": [1, 1], "old_predictions": [1, 1], "result": {"agreement": 1.0, "kappa": nan}},
]
