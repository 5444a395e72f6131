"""Names that cards share: of the rows of their tables, and of the figures that the Hub can search."""

OLD_MODEL = "old model"
"""The row of the model that all others are compared with."""

PLAIN_UPDATE = "plain update"
"""The new task adapter as it is."""

CONTROL = "control: same steps more"
"""The new task adapter, trained on for as many steps without the old model."""

COMPATIBILITY_ADAPTER = "compatibility adapter"

RATES = {
    "accuracy": "new_accuracy",
    "negative_flip_rate": "negative_flip_rate",
    "positive_flip_rate": "positive_flip_rate",
    "relative_negative_flip_rate": "relative_negative_flip_rate",
}
"""Type of a figure on the Hub -> the rate of a [`Comparison`][muscle_hf.flips.Comparison] that it is."""

REDUCTION = "negative_flip_rate_reduction"
"""Negative flip rate of the plain update minus that of this adapter."""

REDUCTION_AGAINST_CONTROL = "negative_flip_rate_reduction_against_control"
"""The same with the control."""

CARD, PICTURE, RECORD = "README.md", "quadrants.png", "comparison.json"
"""The files of a card."""
