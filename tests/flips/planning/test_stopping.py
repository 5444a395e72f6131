"""When an evaluation may stop: the verdicts, their sides and their errors."""

import math

import pytest

from muscle_hf.errors import InputError
from muscle_hf.flips.coin import coin_flips
from muscle_hf.flips.planning.stopping import stopping_verdict


@pytest.mark.parametrize(
    ("negative", "positive", "verdict"),
    [
        (0, 0, "cannot tell"),
        (7, 0, "cannot tell"),  # 2 ** 7 / 8 = 16
        (8, 0, "broken"),  # 2 ** 8 / 9 = 28
        (0, 8, "kept"),
        (500, 500, "cannot tell"),
        (70, 30, "broken"),
        (30, 70, "kept"),
    ],
)
def test_the_side_is_that_of_the_flips(negative: int, positive: int, verdict: str) -> None:
    assert stopping_verdict(coin_flips(negative, positive), 20) == verdict


def test_a_factor_just_reached_stops() -> None:
    assert stopping_verdict(coin_flips(7, 0), 16 - 1e-9) == "broken"
    assert stopping_verdict(coin_flips(7, 0), 16 + 1e-9) == "cannot tell"


@pytest.mark.parametrize("prior", [(1.0, 1.0), (20.0, 20.0)])
def test_however_often_one_looks_few_neutral_updates_are_stopped(prior: tuple[float, float]) -> None:
    # By enumeration of all orders of 25 flips: the chance of each count of negative ones that has not stopped yet.
    going = {0: 1.0}
    stopped = 0.0
    for flips in range(1, 26):
        after: dict[int, float] = {}
        for negative, chance in going.items():
            for more in (0, 1):
                after[negative + more] = after.get(negative + more, 0.0) + chance / 2
        ended = {k for k in after if stopping_verdict(coin_flips(k, flips - k, prior=prior), 20) != "cannot tell"}
        stopped += sum(after[k] for k in ended)
        going = {k: chance for k, chance in after.items() if k not in ended}
    assert 0 < stopped < 1 / 20


@pytest.mark.parametrize("at", [1, 0.05, -20, math.nan, True, "20", None])
def test_a_factor_that_nobody_would_stop_at_is_refused(at: object) -> None:
    with pytest.raises(InputError, match="must be a number above 1"):
        stopping_verdict(coin_flips(1, 1), at)  # type: ignore[arg-type]
