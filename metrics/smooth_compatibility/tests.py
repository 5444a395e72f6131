"""Cases with known results, in the form of evaluate's module template; what is no input is an option of compute."""

nan = float("nan")

test_cases = [
    # ROUGE-1: F = 2 * shared / (words of both), so 2*3/9, 2*2/5, 2*1/3 before and 1, 2*2/5, 0 after.
    {
        "predictions": ["the cat sat on the mat", "a dog", "snow"],
        "old_predictions": ["the cat sat", "a dog", "rain"],
        "references": ["the cat sat on the mat", "a dog barks", "rain today"],
        "scorer": "rouge1",
        "result": {
            "negative_flip_rate": 1 / 3,
            "positive_flip_rate": 1 / 3,
            "mean_gain": 1 / 3,
            "mean_regression": 2 / 3,
            "mean_score": 1.8 / 3,
            "old_mean_score": (2 / 3 + 0.8 + 2 / 3) / 3,
            "mean_change": -1 / 9,
            "negative_flips": 1,
            "positive_flips": 1,
            # Of two changes the larger is the fall: no split of signs is less extreme.
            "p_value": 1.0,
        },
    },
    # A text that is missing scores 0; "No" is not "no".
    {
        "predictions": [None, "no", "a"],
        "old_predictions": ["yes", "No", None],
        "references": ["yes", "no", "b"],
        "scorer": "exact_match",
        "result": {
            "negative_flips": 1,
            "positive_flips": 1,
            "mean_gain": 1.0,
            "mean_regression": 1.0,
            "mean_change": 0.0,
        },
    },
    # Plain scores, where ints and floats may be mixed. 0.71 - 0.70 is 0.01 but for rounding, and so no flip.
    {
        "predictions": [0.70, 1, 0.3],
        "old_predictions": [0.71, 0, 0.5],
        "tolerance": 0.01,
        "result": {
            "negative_flips": 1,
            "positive_flips": 1,
            "mean_gain": 1.0,
            "mean_regression": 0.2,
            "mean_change": 0.79 / 3,
        },
    },
    # Nothing changes: no division by zero, and no 0 where nothing is defined.
    {
        "predictions": ["a b", "c"],
        "old_predictions": ["a b", "c"],
        "references": ["a b", "d"],
        "scorer": "chrf",
        "result": {
            "negative_flip_rate": 0.0,
            "positive_flip_rate": 0.0,
            "mean_gain": nan,
            "mean_regression": nan,
            "mean_score": 0.5,
            "old_mean_score": 0.5,
            "mean_change": 0.0,
            "p_value": 1.0,
        },
    },
]
