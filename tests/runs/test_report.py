"""Tables of comparisons: the figures, and that no name of a model or a data set can break them."""

import math

import pytest
from comparisons import answers, run, sample, scored
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from muscle_hf import compare_runs
from muscle_hf.errors import InputError
from muscle_hf.flips.coin import coin_flips
from muscle_hf.flips.comparison import Comparison, compare, compare_correct
from muscle_hf.runs.cells import Change, Estimate, stacked
from muscle_hf.runs.report import (
    COLUMNS,
    RELATIVE,
    bayes_factor,
    header,
    markdown,
    rate,
    table_rows,
    update_tables,
    verdict,
)
from muscle_hf.text import escape_markdown, markdown_table

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])

HOSTILE = [
    "a|b",
    "a\\|b",
    "a\\\\|b",
    "\\",
    "|",
    "`|`",
    "a\nb",
    "a\r\n\r\nb",
    "a\u2028b",
    "---",
    "<script>alert(1)</script>",
    "<!-- hidden",
    "&lt;b&gt;",
    "[x](javascript:alert)",
    "![x](https://example.org/x.png)",
    "[x][y]",
    "[x]",
    "[x]: y",
    "**bold**",
    "__init__",
    "_x_",
    "base_v2_large",
    "~~gone~~",
    "`code`",
    "# title #",
    "- item",
    "1. item",
    "https://example.org/a_b",
    "{{ title }}",
    "$x$",
]


def _cells(table: str) -> list[list[str]]:
    """Render a table and return the text that a reader sees in its cells; fail if there is anything but text."""
    tokens = MARKDOWN.parse(table)
    assert [token.type for token in (tokens[0], tokens[-1])] == ["table_open", "table_close"], table
    assert sum(token.type == "table_open" for token in tokens) == 1
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline":
            assert {child.type for child in token.children or []} <= {"text", "text_special"}, token.content
            rows[-1].append("".join(child.content for child in token.children or []))
    return rows


def _comparison() -> Comparison:
    return compare(old=list("aabbab"), new=list("aabcba"), references=list("aaaaaa"))


# Figures -------------------------------------------------------------------------------------------------------------


def test_every_figure_stands_in_its_own_column() -> None:
    comparison = _comparison()
    (row,) = table_rows({"new": comparison})
    assert len(row) == len(header())
    for (title, attribute, arrow), head, cell in zip((*COLUMNS, RELATIVE), header()[1:], row[1:], strict=True):
        scale = 1 if attribute == RELATIVE[1] else 100
        digits = 2 if scale == 1 else 1
        low, high = comparison.confidence_interval(attribute)
        estimate = getattr(comparison, attribute)
        assert str(cell) == f"{scale * estimate:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"
        assert head.startswith(title)
        assert head.endswith(arrow)
        assert ("%" in head) == (scale == 100)


@pytest.mark.parametrize(("_title", "attribute", "arrow"), [*COLUMNS, RELATIVE])
def test_the_arrow_of_a_column_is_the_direction_of_its_rate(_title: str, attribute: str, arrow: str) -> None:
    assert getattr(Comparison, attribute).better == arrow


def test_known_figures_are_printed_as_they_are() -> None:
    comparison = compare_correct(old=[True] * 60 + [False] * 40, new=[True] * 50 + [False] * 50)
    assert str(rate(comparison, "negative_flip_rate")) == "10.0 [5.5, 17.4]"
    assert str(rate(comparison, "negative_flip_rate", percent=False)) == "0.10 [0.06, 0.17]"


def test_rows_keep_the_order_in_which_models_were_given() -> None:
    names = ["z", "a", "m"]
    assert [row[0] for row in table_rows(dict.fromkeys(names, _comparison()))] == names


def test_the_level_reaches_the_intervals() -> None:
    narrow, wide = (table_rows({"new": _comparison()}, level=level) for level in (0.5, 0.99))
    assert narrow != wide
    assert narrow[0][1] == rate(_comparison(), "new_accuracy", level=0.5)


def test_an_undefined_rate_is_called_so_and_is_neither_nan_nor_0() -> None:
    perfect = compare(old=["a"], new=["a"], references=["a"])
    assert math.isnan(perfect.relative_negative_flip_rate)
    assert str(table_rows({"new": perfect})[0][-1]) == "undefined"
    (row,) = table_rows({"new": compare_correct(old=[True, False], new=[False, True])})
    assert str(row[4]) == "undefined", "inconsistency needs answers"


def test_a_change_that_rounds_to_0_has_no_sign() -> None:
    old, new = [True] + [False] * 9999, [False] * 10_000
    assert str(rate(compare_correct(old=old, new=new), "accuracy_change")).startswith("0.0 [")


def test_an_unknown_rate_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="there is no rate named 'n'; the rates are: "):
        rate(_comparison(), "n")


def test_a_level_in_percent_is_refused() -> None:
    with pytest.raises(InputError, match="level is 95"):
        table_rows({"new": _comparison()}, level=95)


def test_a_narrow_column_breaks_a_cell_before_its_interval_or_its_later_figure() -> None:
    estimate, change = Estimate(8.66, 7.9, 9.6), Change(70, 71.25)
    assert [str(cell) for cell in (estimate, change)] == ["8.7 [7.9, 9.6]", "70.0 -> 71.2"]
    assert [stacked(cell) for cell in (estimate, change)] == ["8.7\n[7.9, 9.6]", "70.0\n-> 71.2"]
    assert [stacked(cell, intervals=False) for cell in (estimate, change)] == ["8.7", "70.0\n-> 71.2"]
    # What looks like one of them is still a name.
    assert stacked("a [b] -> c", intervals=False) == "a [b] -> c"


def test_a_figure_without_an_interval_stands_alone() -> None:
    assert str(Estimate(1.5, math.nan, math.nan, "z.2f")) == "1.50"


# Markdown ------------------------------------------------------------------------------------------------------------


def test_a_table_is_readable_as_text_too() -> None:
    assert markdown_table(["model", "NFR ↓"], [["base_v2 (new)", "8.7 [7.9, 9.6]"], ["-0.5", "undefined"]]) == (
        "| model | NFR ↓ |\n|---|---|\n| base_v2 (new) | 8.7 [7.9, 9.6] |\n| -0.5 | undefined |"
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_shows_as_it_is_and_stays_in_its_cell(text: str) -> None:
    shown = " ".join(text.split())
    table = markdown_table([text, "x"], [[text, "1"], ["2", text]])
    assert len(table.split("\n")) == 4
    assert _cells(table) == [[shown, "x"], [shown, "1"], ["2", shown]]


# What the renderer itself drops or replaces is not the table's doing.
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\\`*_[]()~|<>&!#+-=. \n12ab"))


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXTS, min_size=2, max_size=2))
def test_no_text_whatever_breaks_a_table(texts: list[str]) -> None:
    # A renderer trims what it takes for white space at the ends of a cell; so does the escape, and some more.
    shown = [" ".join(text.split()) for text in texts]
    assert _cells(markdown_table(["a", "b"], [texts])) == [["a", "b"], shown]


@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
@example(text="[0]")
def test_no_text_whatever_starts_a_block_in_a_list_or_a_heading(text: str) -> None:
    escaped = escape_markdown(text)
    for before, after in (("- ", ": 1"), ("# ", "")):
        tokens = MARKDOWN.parse(f"{before}{escaped}{after}")
        inline = [token for token in tokens if token.type == "inline"]
        assert len(inline) == 1
        assert "".join(child.content for child in inline[0].children or []) == (" ".join(text.split()) + after).strip()
        assert not {token.type for token in tokens} & {"fence", "code_block", "html_block", "hr", "blockquote_open"}


def test_control_characters_and_lone_surrogates_can_be_written_to_a_file() -> None:
    assert escape_markdown("a\x00b\x1b[31m\ud800").encode() == "a\ufffdb\ufffd[31m\ufffd".encode()


@pytest.mark.parametrize("row", [["1"], ["1", "2", "3"], []])
def test_a_row_of_another_width_is_refused_and_not_cut(row: list[str]) -> None:
    with pytest.raises(InputError, match=f"row 2 of the table has {len(row)} cells, but there are 2 columns"):
        markdown_table(["a", "b"], [["1", "2"], row])


def test_a_table_without_rows_is_a_table() -> None:
    assert _cells(markdown_table(["a", "b"], [])) == [["a", "b"]]


# A whole comparison --------------------------------------------------------------------------------------------------


def test_the_verdict_says_what_broke_and_what_was_repaired() -> None:
    result = compare_runs(run("v1", answers("aabb", "aaaa")), run("v2", answers("abaa", "aaaa")))
    (sentence,) = verdict(result)
    assert sentence == (
        "Of 4 answers the update breaks 1 that were right (25.0 %) and repairs 2 (50.0 %): accuracy 50.0 -> 75.0 %, "
        "p = 1."
    )


def test_the_verdict_on_scores_does_not_call_them_right_answers() -> None:
    (sentence,) = verdict(compare_runs(run("v1", scored([0.5, 0.5])), run("v2", scored([0.4, 0.5]))))
    assert sentence.startswith(
        "With the update rougeL falls on 1 of 2 instances (50.0 %) and rises on 0 (0.0 %): mean"
    )


def test_tasks_that_cannot_be_pooled_have_a_verdict_each() -> None:
    sentences = verdict(sample(tasks=("rouge", "bleu"), scores=True))
    assert [sentence.partition(":")[0] for sentence in sentences] == ["rouge", "bleu"]


def test_the_verdict_names_the_seed_floor_beside_the_flips() -> None:
    (sentence,) = verdict(sample(floor=True))
    assert "Between runs of one and the same version there are negative flips on" in sentence


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("floor", [False, True])
def test_every_row_is_as_wide_as_its_titles(scores: bool, floor: bool) -> None:
    for head, rows in update_tables(sample(scores=scores, floor=floor, by=not scores)):
        assert rows
        assert {len(row) for row in rows} == {len(head)}
        assert ("seed floor, %" in head) == floor
        assert ("mean" in head) == scores


def test_the_figures_of_a_row_are_those_of_the_comparison() -> None:
    result = compare_runs(run("v1", answers("aabb", "aaaa")), run("v2", answers("abaa", "aaaa")))
    ((head, (row,)),) = update_tables(result)
    shown = dict(zip(head, row, strict=True))
    compared = result.tasks[0].comparison
    assert isinstance(compared, Comparison)
    low, high = compared.confidence_interval("accuracy_change")
    assert shown == {
        "task": "quiz",
        "n": "4",
        "accuracy, %": Change(50, 75),
        "change ↑, points": Estimate(25, 100 * low, 100 * high, "+z.1f"),
        "NFR ↓, %": rate(compared, "negative_flip_rate"),
        "PFR ↑, %": rate(compared, "positive_flip_rate"),
        "relative NFR ↓": rate(compared, "relative_negative_flip_rate", percent=False),
        "p": "1",
        "p, Holm": "1",
    }


def test_an_enormous_bayes_factor_is_a_power_of_ten_and_not_infinite() -> None:
    assert bayes_factor(coin_flips(5000, 0)) == "10^1501"
    assert bayes_factor(coin_flips(0, 0)) == "1"


@pytest.mark.slow
@pytest.mark.parametrize(("old_name", "new_name"), [("{0}", "v2"), ("v1", "{0}")])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_the_markdown_of_a_pull_request_comment(name: str, old_name: str, new_name: str) -> None:
    task = answers("ab", "aa", task=name, slices={"c": [name, "x"]})
    old, new = run(old_name.format(name), task), run(new_name.format(name), answers("bb", "aa", task=name))
    tokens = MARKDOWN.parse(markdown(compare_runs(old, new, by="c")))
    assert sum(token.type == "table_open" for token in tokens) == 2
    assert not [token for token in tokens if token.type in ("html_block", "fence", "code_block", "hr")]
    inline = {child.type for token in tokens for child in token.children or []}
    assert inline <= {"text", "text_special"}, inline
