"""The benchmark of judges that turn to "no" runs, and asks yes and no one to one with wrong intents that are wrong."""

import runpy
from pathlib import Path

import pytest

BENCHMARK = str(Path(__file__).parents[2] / "benchmarks" / "negative_bias.py")


def test_a_wrong_intent_is_the_likeliest_other_one() -> None:
    names = runpy.run_path(BENCHMARK)
    texts = {"pay the bill": "bill", "pay the rent": "rent", "play a song": "music"}
    rows = [{"prompt": f"{text}\n", "completion": intent} for text, intent in texts.items()]
    asked = names["questions"](rows[:1], names["WrongIntents"](rows), 2)
    assert [(row["prompt"], row["completion"]) for row in asked] == [
        ("pay the bill; intent = bill?\n", "yes"),
        ("pay the bill; intent = rent?\n", "no"),
        ("pay the bill; intent = music?\n", "no"),
    ]


@pytest.mark.slow
def test_judges_are_trained_asked_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(BENCHMARK)["main"](["--intents", "3", "--steps", "2", "--test-rows", "6"])
    shown = capsys.readouterr().out
    assert "| all | 12 |" in shown
    assert [name for name in ("correct", "incorrect", "insufficient") if f"\n| {name} | " in shown] == [
        *("correct", "incorrect", "insufficient")
    ]
    assert "minus where it is correct:" in shown
