"""The coin example gives the published figures where the paper has them, and its table can be read."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from muscle_hf.flips.coin import grouped_coin_flips

SCRIPT = Path(__file__).parents[2] / "examples" / "coin_flips.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coin_flips_example", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["coin_flips_example"] = module
    spec.loader.exec_module(module)
    return module


def test_the_coins_are_the_published_ones(example: ModuleType) -> None:
    same, heads, flips = map(sum, zip(*example.PEOPLE, strict=True))
    assert (len(example.PEOPLE), same, heads, flips) == (48, 178_078, 175_420, 350_757)


def test_mean_and_spread_over_people_do_not_differ_from_the_published_estimates(example: ModuleType) -> None:
    # The paper's analysis code reports 0.5098 [0.5050, 0.5147] and 0.0156 [0.0119, 0.0200], by Stan, with a normal
    # distribution of log odds, the prior Beta(312, 312) and half-normal(0.04) on the log odds: 0.01 as a probability.
    same, flips = [row[0] for row in example.PEOPLE], [row[2] for row in example.PEOPLE]
    rest = [n - k for k, n in zip(same, flips, strict=True)]
    g = grouped_coin_flips(same, rest, prior=(312, 312), spread_scale=0.01)
    assert (g.median, g.low, g.high) == pytest.approx((0.5098, 0.5050, 0.5147), abs=1.5e-4)
    assert (g.spread, g.spread_low, g.spread_high) == pytest.approx((0.0156, 0.0119, 0.0200), abs=3e-4)


def test_bayes_factors_over_people_do_not_leave_the_size_of_the_published_ones(example: ModuleType) -> None:
    # 2359 and 0.182 in the paper; its prior on the spread, Gamma(4, 200) on the log odds, has the mean 0.005 here.
    pooled, grouped = example.coins([row[0] for row in example.PEOPLE], (5100, 4900), "greater")
    assert pooled.bayes_factor == pytest.approx(1.7e17, rel=0.01)
    assert grouped.bayes_factor == pytest.approx(2359, rel=0.05)
    pooled, grouped = example.coins([row[1] for row in example.PEOPLE], (5000, 5000), "two-sided")
    assert pooled.bayes_factor == pytest.approx(0.168, abs=5e-4)
    assert grouped.bayes_factor == pytest.approx(0.182, rel=0.05)


def test_the_script_prints_its_table_with_every_prior(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(["--repetitions", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == ["simulated update", "same side", "heads"]
    assert "2.37e+03" in lines[2]
    assert "pooled Beta(5100, 4900) above 1/2; grouped: groups Beta, mean Beta(5100, 4900)" in lines[7]
    assert "Of 3 such updates" in lines[10]


def test_a_wrong_number_of_repetitions_is_refused(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        example.main(["--repetitions", "0"])
    assert "1 or more" in capsys.readouterr().err
