"""A history of decisions: no line is lost, none is written twice, none that is broken is passed over."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from decisions import decided, table

from muscle_hf.errors import InputError
from muscle_hf.runs.compare import compare_runs
from muscle_hf.runs.gates.bounds import Bound
from muscle_hf.runs.gates.decision import Decision
from muscle_hf.runs.gates.gate import Gate, judge
from muscle_hf.runs.gates.history import _content, _decisions, record
from muscle_hf.runs.page import render_html
from muscle_hf.runs.terminal import plain_text

LIMIT = Bound("max_nfr", "all", 0.2)


def read_history(path: Path) -> tuple[Decision, ...]:
    return _decisions(_content(path), path)


def _decision(folder: Path, broken: int) -> Decision:
    return decided(table(folder / "quiz.csv", broken=broken), LIMIT)


def _gate(folder: Path, broken: int, history: Path) -> tuple[Gate, str, str]:
    """Give the gate with its history, and what page and Markdown show of it."""
    path = table(folder / "quiz.csv", broken=broken)
    result = compare_runs(f"{path}:v1", f"{path}:v2")
    made = judge(result, [LIMIT])
    gate = replace(made, history=record(history, Decision.of(result, made, [LIMIT])))
    assert gate.history
    for line in gate.history.lines:
        assert f"history: {line}\n" in plain_text(result, gate.shown())
        assert len(line.splitlines()) == 1
    return gate, render_html(result, gate=gate.shown()), result.to_markdown(gate)


def test_each_decision_is_a_line_and_the_next_one_says_what_has_changed(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    assert read_history(history) == ()
    first = record(history, _decision(tmp_path, 1))
    assert first.lines == ["this is the first decision of the history"]
    second = record(history, _decision(tmp_path, 20))
    (last, trend) = second.lines
    assert last.endswith(
        "kept, NFR 2.5 % [0.4, 12.9]; since then: other old answers and new answers; verdict kept -> broken; "
        "all: NFR kept -> broken"
    )
    assert trend == "NFR through 2 decisions: 2.5, 50.0 %"
    assert [decision.verdict for decision in read_history(history)] == ["kept", "broken"]
    assert [point.verdict for point in second.series["all"]] == ["kept", "broken"]


def test_the_same_decision_is_not_counted_twice_and_says_so(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    record(history, _decision(tmp_path, 1))
    record(history, _decision(tmp_path, 2))
    content = history.read_bytes()
    again = record(history, _decision(tmp_path, 1))
    assert again.repeated
    assert again.lines[0].startswith("this decision stands in the history already, since 20")
    assert history.read_bytes() == content
    assert len(again.series["all"]) == 2


def test_a_verdict_that_changed_on_the_same_answers_is_a_point_of_its_own(tmp_path: Path) -> None:
    history, decision = tmp_path / "history.jsonl", _decision(tmp_path, 1)
    record(history, decision)
    assert not record(history, replace(decision, verdict="broken")).repeated


def test_a_comparison_that_was_no_evidence_is_no_zero_of_the_trend(tmp_path: Path) -> None:
    history, path = tmp_path / "history.jsonl", table(tmp_path / "quiz.csv")
    record(history, _decision(tmp_path, 1))
    result = compare_runs(f"{path}:v1", f"{path}:v1")
    shown = record(history, Decision.of(result, judge(result, [LIMIT]), [LIMIT]))
    assert shown.lines[-1] == "NFR through 2 decisions: 2.5, 0.0 (refused) %"


@pytest.mark.parametrize("cut", [1, 40, 1000])
def test_a_line_that_was_cut_off_is_taken_for_a_decision_or_stops_all_later_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cut: int
) -> None:
    history = tmp_path / "history.jsonl"
    for broken in (1, 2):
        record(history, _decision(tmp_path, broken))
    history.write_bytes(history.read_bytes()[: -1 - cut])
    content = history.read_bytes()
    with pytest.raises(InputError, match=r"history\.jsonl, line 2 is no decision of muscle_hf"):
        read_history(history)
    # With its end it was not cut off while it was written, and without its beginning it is none of ours.
    first, last = content.splitlines(keepends=True)
    for other in (content + b"\n", first + b"x" + last):
        history.write_bytes(other)
        with pytest.raises(InputError, match=r"history\.jsonl, line 2 is no decision of muscle_hf"):
            record(history, _decision(tmp_path, 3))
        assert history.read_bytes() == other
    history.write_bytes(content)
    record(history, _decision(tmp_path, 2))
    assert caplog.messages == [
        f"{history} ended in a line that was cut off when its process was killed; it is left out."
    ]
    assert len(read_history(history)) == 2


def test_a_blank_line_is_not_passed_over_and_a_missing_last_line_end_is(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    record(history, _decision(tmp_path, 1))
    history.write_bytes(history.read_bytes().removesuffix(b"\n"))
    record(history, _decision(tmp_path, 2))
    assert len(read_history(history)) == 2
    history.write_bytes(history.read_bytes() + b"\n")
    with pytest.raises(InputError, match="line 3 is no decision"):
        read_history(history)


def test_a_history_that_cannot_be_written_is_told_in_words(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "history.jsonl"):
        with pytest.raises(InputError, match=r"cannot be written .* name another file"):
            record(path, _decision(tmp_path, 1))


def test_jobs_at_the_same_time_neither_lose_a_line_nor_write_one_twice(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    decisions = [_decision(tmp_path, broken) for broken in range(12)]
    with ThreadPoolExecutor(8) as jobs:
        shown = list(jobs.map(lambda decision: record(history, decision), decisions * 4))
    assert sorted(decision.digest for decision in read_history(history)) == sorted(d.digest for d in decisions)
    assert sum(not each.repeated for each in shown) == 12


def test_page_and_comment_show_the_trend_with_its_intervals_and_verdicts(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    _, page, _ = _gate(tmp_path, 1, history)
    assert '<svg class="trend"' not in page, "one point is no trend"
    for broken in (9, 20):
        gate, page, comment = _gate(tmp_path, broken, history)
    assert gate.history
    assert "- History: NFR through 3 decisions: 2.5, 22.5, 50.0 %" in comment
    drawn = page[page.index('<svg class="trend"') : page.index("</svg>", page.index('<svg class="trend"'))]
    # Of NFR and of accuracy.
    assert [drawn.count(f'class="{kind}"') for kind in ("kept", "cannot-tell", "broken", "reach")] == [2, 2, 2, 6]
    assert "v2: 50.0 [35.2, 64.8] %, broken" in drawn
    assert 'href="#history"' in page
    assert "<summary>The 3 decisions</summary>" in page


def test_a_history_of_scores_of_several_tasks_has_a_series_for_each(tmp_path: Path) -> None:
    def runs(values: str) -> str:
        path = tmp_path / "scores.csv"
        path.write_text(f"id,score\n{values}", encoding="utf-8")
        return str(path)

    first = compare_runs(runs("1,0.5\n2,0.25\n3,0.75\n"), runs("1,0.5\n2,0.25\n3,0.75\n"), allow_identical=True)
    bound = Bound("min_accuracy_change", "*", -0.5)
    record(tmp_path / "h.jsonl", Decision.of(first, judge(first, [bound]), [bound]))
    shown = record(tmp_path / "h.jsonl", _decision(tmp_path, 1))
    # Accuracy now and a mean score then are two things.
    assert len(shown.series["all"]) == 1
