"""A comparison as people see it in a terminal, and as a pipe gets it."""

import io

import pytest
from comparisons import answers, run, sample
from rich.console import Console

from muscle_hf import compare_runs
from muscle_hf.runs.gates.gate import judge, parse_bound
from muscle_hf.runs.terminal import plain_text, show


def _shown(result: object, *, width: int, terminal: bool = True) -> str:
    file = io.StringIO()
    show(result, Console(file=file, force_terminal=terminal, width=width, markup=False, emoji=False))  # type: ignore[arg-type]
    return file.getvalue()


def test_what_is_piped_has_no_colours_and_no_broken_lines() -> None:
    result = sample(by=True, floor=True)
    text = plain_text(result)
    assert "\x1b" not in text
    assert all(line == line.rstrip() or line.strip() for line in text.splitlines())
    # One line a group, with all of its figures.
    (line,) = [line for line in text.splitlines() if line.startswith("physics")]
    assert len(line.split("]")) == 7


def test_every_interval_stands_below_its_rate_in_a_narrow_terminal() -> None:
    shown = _shown(sample(by=True), width=100)
    assert max(len(line) for line in Console(width=400).render_lines(shown)) > 0
    assert "…" not in shown, "no figure is cut"


@pytest.mark.parametrize("width", [80, 200])
def test_the_bounds_of_a_gate_are_cut_in_no_terminal(width: int) -> None:
    result = sample(by=True)
    gate = judge(result, [parse_bound("margin", text) for text in ("0.01", "category=*:0.3")])
    file = io.StringIO()
    show(result, Console(file=file, force_terminal=True, width=width, markup=False, emoji=False), gate.shown())
    shown = file.getvalue().partition("Of 60 answers")[0]
    assert "…" not in shown
    assert shown.count("cannot") >= 2
    assert all(f"{judged.n}" in shown for judged in gate.judgements)


def test_names_from_files_are_text_and_not_markup() -> None:
    task = answers("ab", "aa", slices={"[bold]": ["[red]x[/red]", ":smile:"]})
    text = plain_text(compare_runs(run("[link=x]v1", task), run("v2", task), by="[bold]"))
    for name in ("[bold]", "[red]x[/red]", ":smile:", "[link=x]v1"):
        assert name in text


def test_control_characters_in_names_do_not_reach_the_terminal() -> None:
    task = answers("ab", "aa", slices={"c": ["\x1b[2Jx", "y\nz"]})
    shown = _shown(compare_runs(run("v1\x1b]0;title\x07", task), run("v2", task), by="c"), width=200)
    assert "\x1b[2J" not in shown
    assert "\x1b]0" not in shown


def test_many_groups_are_cut_with_a_word_about_it() -> None:
    n = 90
    task = answers("a" * n, "a" * n, slices={"c": [f"group {i:02}" for i in range(n)]})
    text = plain_text(compare_runs(run("v1", task), run("v2", task), by="c"))
    assert "group 39" in text
    assert "group 40" not in text
    assert "and 50 rows more; --json, --markdown and --html have all" in text


def test_notes_are_shown() -> None:
    old, new = run("v1", answers("ab", "aa"), answers("a", "a", task="x")), run("v2", answers("ab", "aa"))
    both = run("v2", *new.tasks.values(), answers("a", "a", task="y"))
    text = plain_text(compare_runs(old, both))
    assert "\n1 of 2 tasks not compared: x.\n" in text, "said right below the verdict"
    assert "note: x: not compared: v2.jsonl lacks it" in text
    assert "note: only in v2.jsonl, not compared: y" in text


@pytest.mark.parametrize("scores", [False, True])
def test_the_coin_flip_view_and_its_prior_stand_in_every_output(scores: bool) -> None:
    text = plain_text(sample(scores=scores))
    assert "coin-flip view, " in text
    assert "prior Beta(1, 1)" in text
