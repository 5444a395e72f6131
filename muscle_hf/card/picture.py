"""The picture beside a card: right and wrong before and after, as areas, and the negative flip rate by slice."""

from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigurationError
from ..flips.comparison import Comparison
from ..runs.measure import Part
from .measured import LEVEL
from .names import OLD_MODEL


def alternative_text(compared: Comparison, models: Mapping[str, Comparison]) -> str:
    """Say in words what the picture shows.

    Example:
        >>> from muscle_hf.flips import compare
        >>> alternative_text(compare(old=list("aab"), new=list("aba"), references=list("aaa")), {})
        'Quadrants of 3 answers: 33.3 % right before and now, 33.3 % right before and wrong now, 33.3 % wrong before \
and right now, 0.0 % wrong before and now.'
    """
    parts = (
        (compared.both_right, "right before and now"),
        (len(compared.negative_flips), "right before and wrong now"),
        (len(compared.positive_flips), "wrong before and right now"),
        (compared.both_wrong, "wrong before and now"),
    )
    shares = ", ".join(f"{100 * count / compared.n:.1f} % {words}" for count, words in parts)
    text = f"Quadrants of {compared.n:,} answers: {shares}."
    # Without their names, which are texts of others and may not stand in the link of a picture.
    return (
        f"{text} Below, accuracy and negative flip rate of all models of the table side by side." if models else text
    )


def draw(
    path: Path,
    compared: Comparison,
    name: str,
    slices: Mapping[str, Mapping[str, Comparison]],
    models: Mapping[str, Comparison],
) -> bool:
    """Draw the picture, of the same figures in the same bytes; False where matplotlib is not installed."""
    from ..runs.plots import Scene, write_scene

    parts = {
        column: [Part.of(group, "accuracy", of_group, level=LEVEL) for group, of_group in groups.items()]
        for column, groups in slices.items()
    }
    whole = Part.of("all", "accuracy", compared, level=LEVEL)
    try:
        write_scene(Scene(OLD_MODEL, name, LEVEL, [whole], None, parts, models), path)
    except ConfigurationError:  # no matplotlib
        return False
    return True
