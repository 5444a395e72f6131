"""The page: it stands alone, shows every flip, and no name or text of a model can get out of its place."""

import base64
import errno
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pyarrow as pa
import pytest
from comparisons import answers, run, sample, scored

from muscle_hf.readers.answers import Positions, Run, TaskAnswers, Text
from muscle_hf.runs import page as html_page
from muscle_hf.runs.compare import compare_runs
from muscle_hf.runs.gates.gate import judge, parse_bound
from muscle_hf.runs.outcomes import Outcomes
from muscle_hf.runs.page import BUDGET, render_html, sections, write_html
from muscle_hf.runs.page.html import KINDS
from muscle_hf.runs.page.instances import LIMITS
from muscle_hf.runs.report import verdict

HOSTILE = "\"><script>alert(1)</script></script><!-- {{data}} ' & \x00 \u202e"
VOID = {"meta", "input"}
# Attributes that make a browser load something, or run it.
LOADS = {"src", "srcset", "action", "formaction", "data", "poster", "background", "ping", "style", "xlink:href"}


class Page(HTMLParser):
    """Reads a page as a browser would: elements with their attributes, texts, and the instances."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.open = text, list[str]()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.blocks: dict[str, list[str]] = {}
        self.shown = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {attrs}"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> in {self.open}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.blocks.setdefault(self.open[-1], []).append(data)
        else:
            self.shown += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> Any:
        """What the script of the page reads."""
        return json.loads(gzip.decompress(base64.b64decode(self.blocks["script"][0], validate=True)))

    def rows(self, *kinds: str) -> list[list[Any]]:
        """Instances of some kinds, or of all."""
        wanted = [list(KINDS).index(kind) for kind in kinds]
        return [row for row in self.data["rows"] if row[1] in wanted or not kinds]


def page(outcomes: Outcomes) -> Page:
    return Page(render_html(outcomes))


def made(n: int, texts: Sequence[Text], *, tasks: Sequence[str] = ("quiz",), wrong: float = 0.3) -> Outcomes:
    """A comparison of answers 0 and 1; the texts of instance i are those at i, modulo their number."""
    random = np.random.default_rng(0)

    def read(places: Positions) -> list[Text]:
        return [texts[place % len(texts)] for place in places.tolist()]

    def version(label: str) -> Run:
        columns = {
            task: TaskAnswers(
                task,
                f"{label}.jsonl",
                pa.array([f"q{i}" for i in range(n)]),
                answers=pa.array((random.random(n) < wrong).astype(np.int64)),
                references=pa.array(np.zeros(n, np.int64)),
                texts=read,
            )
            for task in tasks
        }
        return Run(label, f"{label}.jsonl", columns)

    return compare_runs(version("v1"), version("v2"))


SAMPLES = {
    "answers": sample(tasks=("quiz", "trivia"), floor=True, by=True),
    "one task": sample(),
    "scores": sample(tasks=("quiz", "trivia"), scores=True, floor=True),
    "both": compare_runs(
        run("a", answers([1, 1, 0], [1, 1, 1]), answers([1], [1], task="b"), scored([0.5, 0.2, 0.1])),
        run("b", answers([1, 0, 1], [1, 1, 1]), answers([1], [1], task="b"), scored([0.4, 0.2, 0.3])),
    ),
    "sampled": compare_runs(
        run("a", scored([0.5, 0.0, 1.0], samples=[8, 8, 8])), run("b", scored([0.0, 0.0, 0.5], samples=[8, 8, 8]))
    ),
    "many scores": sample(20, tasks=[f"task {i}" for i in range(6)], scores=True),
    "nothing changes": compare_runs(run("a", answers([1, 1], [1, 1])), run("b", answers([1, 1], [1, 1]))),
}


# It stands alone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcomes", SAMPLES.values(), ids=SAMPLES)
def test_page_is_well_formed_and_every_link_and_label_has_its_target(outcomes: Outcomes) -> None:
    shown = page(outcomes)
    ids = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in shown.elements:
        for target in (attributes.get("aria-labelledby"), attributes.get("aria-describedby")):
            assert target is None or target in ids
    for link in shown.all("a"):
        assert link["href"].startswith("#")
        assert "=" in link["href"] or link["href"][1:] in ids
    assert "{{" not in shown.shown
    assert "nan" not in shown.shown


@pytest.mark.parametrize("outcomes", SAMPLES.values(), ids=SAMPLES)
def test_page_loads_nothing_and_its_policy_admits_its_own_blocks_alone(outcomes: Outcomes) -> None:
    shown = page(outcomes)
    policy = next(meta["content"] for meta in shown.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    assert rules["img-src"] == ["data:"]
    for tag, block in (("style", shown.blocks["style"][0]), ("script", shown.blocks["script"][1])):
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == [f"'sha256-{digest}'"]
    assert [script.get("type") for script in shown.all("script")] == ["text/plain", None]
    for tag, attributes in shown.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert not LOADS & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?:|url\(|@import|innerHTML|insertAdjacentHTML|document\.write", shown.text)


def test_same_comparison_gives_the_same_page() -> None:
    assert render_html(sample(200, by=True)) == render_html(sample(200, by=True))


# Figures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcomes", SAMPLES.values(), ids=SAMPLES)
def test_no_verdict_task_slice_or_note_is_forgotten(outcomes: Outcomes) -> None:
    shown = page(outcomes).shown.replace("\N{NO-BREAK SPACE}", " ").replace("→", "->")
    for line in (*verdict(outcomes), *outcomes.notes):
        assert line in shown
    for _, part in outcomes.parts:
        assert part.name in shown
    assert (outcomes.overall or outcomes.tasks[0]).coin.prior_text in shown
    for view in outcomes.hierarchical.values():
        assert view.prior_text in shown


def test_areas_of_the_quadrants_are_their_shares() -> None:
    outcomes = sample(500)
    part = outcomes.tasks[0]
    boxes = [{name: float(box[name]) for name in ("width", "height")} for box in page(outcomes).all("rect")]
    areas = sorted(box["width"] * box["height"] / 340**2 for box in boxes)
    counts = [count for name, count in part.comparison.to_dict()["counts"].items() if name != "both_wrong_same"]
    assert areas == pytest.approx(sorted(count / part.n for count in counts), abs=1e-4)
    label = next(svg["aria-label"] for svg in page(outcomes).all("svg") if svg.get("role") == "img")
    for count in counts:
        assert f" {count} (" in label


def test_a_score_page_draws_fell_and_rose_and_has_no_quadrants() -> None:
    shown = page(SAMPLES["scores"])
    assert "both right" not in shown.shown
    assert shown.shown.count("negative flips: fell") == 2
    assert {row[1] for row in shown.rows()} <= {0, 1, 4}
    row, instance = shown.rows("negative_flip")[0], next(SAMPLES["scores"].flips())
    assert row[-2:] == [instance.old_score, instance.new_score]


def test_undefined_numbers_are_called_undefined() -> None:
    shown = page(SAMPLES["nothing changes"]).shown
    assert "relative NFR ↓undefined" in shown
    assert "nan" not in shown


def test_seed_floor_and_reliable_change_are_told_where_there_are_any() -> None:
    assert "Seed floor" in page(SAMPLES["answers"]).shown
    assert "Seed floor" not in page(SAMPLES["one task"]).shown
    assert "Reliable-change rule" in page(SAMPLES["sampled"]).shown
    assert "Reliable-change rule" not in page(SAMPLES["scores"]).shown


def test_scores_beside_answers_are_not_left_out_of_the_head() -> None:
    shown = page(SAMPLES["both"]).shown
    assert shown.count("Broken: negative flip rate") == 1
    assert shown.count("Fell: negative flip rate") == 1


def test_a_table_beyond_its_limit_says_how_many_rows_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "_ROWS", 2)
    assert "2 rows with a lower negative flip rate are left out" in page(sample(by=True)).shown


def test_tasks_and_slices_that_broke_most_come_first_and_the_plot_stands_beside_the_rate() -> None:
    text = render_html(SAMPLES["answers"])
    for start in ('<h2 id="tasks">', '<h2 id="by-0">'):
        body = text.partition(start)[2].partition("</table>")[0].split("<tr>")[2:]
        body = body[1:] if "all tasks" in body[0] else body
        shown = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body]
        assert len(shown) > 1
        rates = [float(row[3].split()[0]) for row in shown]
        assert rates == sorted(rates, reverse=True)
        for rate, row in zip(rates, shown, strict=True):
            place = re.search(r'cx="([\d.]+)"', row[4])
            assert place is not None
            top = re.findall(r"<span>([\d.]+) %</span>", text.partition(start)[2])[0]
            assert float(place[1]) == pytest.approx(6 + 128 * rate / float(top), abs=0.4)


def test_many_tasks_of_scores_put_their_table_before_their_figures() -> None:
    shown = page(SAMPLES["many scores"]).shown
    assert shown.index("6 tasks that cannot be counted together") < shown.index("Dot and bar")
    assert shown.index("Dot and bar") < shown.index("Figures of each")


def test_links_of_rows_find_as_many_instances_as_the_row_counts() -> None:
    scores = [scored([0.5, 0.2, 0.1, 0.7], task="quiz: b"), scored([0.4, 0.3, 0.1, 0.9], task="quiz: b")]
    gold = [1, 1, 1, 1]
    groups: dict[str, Sequence[str | None]] = {"group": ["x", None, "all", "quiz: b"]}
    pairs = [
        [
            answers(said, gold, slices=groups),
            answers(said, gold, task="more", slices=groups),
            TaskAnswers(**{**vars(score), "slices": {"group": pa.array(groups["group"])}}),
        ]
        for said, score in zip(([1, 1, 0, 1], [0, 1, 1, 1]), scores, strict=True)
    ]
    outcomes = compare_runs(run("a", *pairs[0]), run("b", *pairs[1]), by="group")
    shown = page(outcomes)
    tasks, groups_known = shown.data["tasks"], shown.data["columns"][0]["groups"]
    found = []
    for link in shown.all("a"):
        if "=" in link["href"]:
            state = {name: values[0] for name, values in parse_qs(link["href"][1:]).items()}
            found.append(
                sum(
                    state["kind"] in ("all", list(KINDS)[row[1]])
                    and state.get("task") in (None, tasks[row[0]]["name"])
                    and not (state.get("of") == "answers" and tasks[row[0]]["scores"])
                    and ("by.group" not in state or row[7] == [groups_known.index(state["by.group"])])
                    and ("no" not in state or row[7] == [-1])
                    for row in shown.rows()
                )
            )
    # Quadrants of the pool, thirds of the scores; the pool and the tasks; four groups of answers, four of scores.
    assert sorted(found) == sorted([2, 2, 0, 4, 1, 2, 1, 8, 4, 4, 4, 2, 2, 2, 2, 1, 1, 1, 1])


# Instances -----------------------------------------------------------------------------------------------------------


def test_every_instance_of_a_small_comparison_is_there_with_its_texts() -> None:
    outcomes = SAMPLES["answers"]
    shown = page(outcomes)
    data = shown.data
    flips = {(flip.task, flip.id): flip for flip in outcomes.flips()}
    kinds = [flip.kind for flip in flips.values()]
    broken, repaired = kinds.count("negative_flip"), kinds.count("positive_flip")
    others = sum(part.n for part in outcomes.tasks) - len(flips)
    told = (
        f"This page holds all {len(flips)} flips (right before, wrong now: {broken}; wrong before, right now: "
        f"{repaired}), and all {others} other instances. The list begins with the flips"
    )
    assert told in shown.shown
    rows = shown.rows("negative_flip", "positive_flip")
    assert len(rows) == len(flips)
    for task, kind, key, question, reference, old, new, codes in rows:
        flip = flips[data["tasks"][task]["name"], key]
        assert list(KINDS)[kind] == flip.kind
        assert (question, reference, old, new) == (flip.question, flip.reference, flip.old_answer, flip.new_answer)
        groups = [None if code < 0 else data["columns"][0]["groups"][code] for code in codes]
        assert groups == [flip.slices["category"]]


def test_script_and_python_call_the_columns_and_kinds_alike() -> None:
    script = page(SAMPLES["one task"]).blocks["script"][1]
    assert f"const KINDS = {json.dumps(list(KINDS))};" in script
    assert f"const SYMBOLS = {json.dumps([symbol for symbol, _ in KINDS.values()], ensure_ascii=False)};" in script
    assert "const [TASK, KIND, ID, QUESTION, REFERENCE, OLD, NEW, GROUPS, OLD_SCORE, NEW_SCORE] =" in script


@pytest.mark.slow
def test_ten_thousand_instances_stay_under_two_megabytes_and_all_flips_are_in() -> None:
    random = np.random.default_rng(0)
    words = ["".join(map(chr, random.integers(97, 123, size))) for size in random.integers(2, 11, 5_000)]

    def text(size: int) -> str:
        return " ".join(words[place] for place in (5_000 * random.random(size // 6) ** 2).astype(int))

    texts = [Text(text(300), text(12), text(75)) for _ in range(10_000)]
    outcomes = made(10_000, texts)
    shown = page(outcomes)
    assert len(shown.text.encode()) < BUDGET + 1_000
    flips = len(list(outcomes.flips()))
    assert len(shown.rows("negative_flip", "positive_flip")) == flips
    others = len(shown.rows("both_right", "both_wrong"))
    assert 1_000 < others < 10_000 - flips
    assert f"This page holds all {flips:,} flips (" in shown.shown
    assert f"), and a random sample of {others:,} of {10_000 - flips:,} other instances" in shown.shown
    # A sample, not the first ones.
    keys = [int(row[2][1:]) for row in shown.rows("both_right", "both_wrong")]
    assert keys == sorted(keys)
    assert 4_500 < np.mean(keys) < 5_500


def test_flips_that_need_more_than_the_budget_all_stay_with_texts_cut_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_page, "BUDGET", 0)
    monkeypatch.setattr(html_page, "_LEAST", 20_000)
    random = np.random.default_rng(0)
    texts = [Text(random.bytes(500).hex(), "gold", random.bytes(100).hex()) for _ in range(300)]
    outcomes = made(300, texts, tasks=("a", "b"))
    shown = page(outcomes)
    flips = len(list(outcomes.flips()))
    assert len(shown.rows()) == len(shown.rows("negative_flip", "positive_flip")) == flips
    limit = LIMITS[-1]
    assert {(len(row[3][0]), row[3][1]) for row in shown.rows()} == {(limit, 1_000 - limit)}
    assert {row[4] for row in shown.rows()} == {"gold"}
    assert f"There is no room for any of the {600 - flips} other instances." in shown.shown
    assert f"Texts are cut after {limit} characters ({3 * flips} of them)" in shown.shown


def test_texts_of_instances_that_are_not_shown_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_page, "BUDGET", 0)
    monkeypatch.setattr(html_page, "_LEAST", 20_000)
    outcomes = made(20_000, [Text("question " * 20, "gold", "answer")], wrong=0.05)
    pair = outcomes.pairs["quiz"]
    read: list[int] = []
    original = pair.old.texts

    def counting(places: Positions) -> list[Text]:
        read.extend(places.tolist())
        assert original is not None
        return original(places)

    object.__setattr__(pair.old, "texts", counting)
    shown = page(outcomes)
    assert len(set(read)) == len(read) < 20_000
    assert len(read) - len(shown.rows()) <= 500


def test_a_page_without_texts_has_ids_and_answers_and_no_empty_columns() -> None:
    gold = ["a", "b", "c"]
    known = compare_runs(
        run("a", answers(["a", "b", None], gold, texts=False)), run("b", answers(["a", "x", "c"], gold, texts=False))
    )
    shown = page(known)
    assert [row[2:7] for row in shown.rows()] == [
        ["q0", None, "a", "a", "a"],
        ["q1", None, "b", "b", "x"],
        ["q2", None, "c", None, "c"],
    ]
    assert shown.data["tasks"][0]["answers"] is True
    scores_alone = page(compare_runs(run("a", scored([0.1, 0.5])), run("b", scored([0.2, 0.5]))))
    assert [row[3:7] for row in scores_alone.rows()] == [[None] * 4] * 2
    assert scores_alone.data["tasks"][0]["answers"] is False


def test_ids_beyond_what_a_script_can_count_keep_every_digit() -> None:
    key = 2**63 - 1
    sides = [
        TaskAnswers("quiz", "a", pa.array([key]), answers=pa.array([said]), references=pa.array([1]))
        for said in (1, 0)
    ]
    assert page(compare_runs(run("a", sides[0]), run("b", sides[1]))).rows()[0][2] == str(key)


# Hostile names and texts ---------------------------------------------------------------------------------------------


def test_hostile_names_and_texts_are_shown_as_they_are_and_change_nothing_else() -> None:
    def outcomes(name: str) -> Outcomes:
        def version(label: str, said: Sequence[str]) -> Run:
            task = answers(said, [name, name], task=name, source=label, slices={name: [name, None]})
            more = TaskAnswers(**{**vars(task), "task": f"{name}2"})
            return Run(label, label, {name: task, f"{name}2": more}, notes=(f"note {name}",))

        return compare_runs(version(f"{name}-1", [name, "x"]), version(f"{name}-2", ["x", name]), by=name)

    calm, hostile = page(outcomes("calm")), page(outcomes(HOSTILE))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in calm.elements]
    shown = HOSTILE.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    assert hostile.shown.replace(shown, "calm") == calm.shown
    assert hostile.data["old"] == f"{shown}-1"
    assert hostile.data["columns"] == [{"name": shown, "groups": [shown]}]
    assert hostile.rows()[0][4:7] == [shown, shown, "x"]
    # In the file they stand escaped or encoded, never as they are.
    assert "alert(1)</script>" not in hostile.text
    assert HOSTILE not in hostile.text


def test_line_ends_and_scripts_of_the_world_survive_the_way_into_the_page() -> None:
    texts = [Text("one\r\ntwo\rthree\n\tfour", "שלום \N{RIGHT-TO-LEFT MARK}עולם", "日本語 👩‍🔬 \u2028 \x1b[0m")]
    row = page(made(2, texts, wrong=0.5)).rows()[0]
    assert row[3] == "one\ntwo\nthree\n\tfour"
    assert row[4] == texts[0].reference
    assert row[5] == "日本語 👩‍🔬 \u2028 \N{REPLACEMENT CHARACTER}[0m"


# Files ---------------------------------------------------------------------------------------------------------------


def test_file_holds_the_page_and_no_temporary_file_is_left(tmp_path: Path) -> None:
    path = write_html(SAMPLES["one task"], str(tmp_path / "report.html"))
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == render_html(SAMPLES["one task"])
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_in_writing_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_html(SAMPLES["one task"], path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_html(SAMPLES["one task"], tmp_path / "missing" / "report.html")


# The gate ------------------------------------------------------------------------------------------------------------


def test_the_gate_stands_on_the_page_with_every_bound_kept_or_not() -> None:
    result = sample(200, by=True)
    nfr = result.tasks[0].comparison.negative_flip_rate
    assert 0.01 < nfr < 0.5
    texts = "0.01", "0.5", "category=*:0.9"
    gate = judge(result, [parse_bound("max_nfr", text) for text in texts])
    shown = Page(render_html(result, gate=gate.shown()))
    assert "✗ Broken" in shown.shown
    assert "1 of 6 bounds, held to 95\N{NO-BREAK SPACE}% intervals" in shown.shown
    text = shown.text
    section = text[text.index('<section class="gate broken"') :]
    section = section[: section.index("</section>")]
    assert section.count("<td>broken</td>") == 1
    assert section.count("<td>kept</td>") == 5
    assert re.search(rf"<td>{100 * nfr:.1f} % \[.*?\]</td><td>≤ 1 %</td><td>200</td>", section)
    assert section.index("<td>broken</td>") < section.index("<td>kept</td>")
    assert 'href="#gate"' in text
    assert text.index('id="gate"') < text.index("the update breaks"), "before all else"
    assert 'id="gate"' not in render_html(result)


def test_a_gate_that_holds_is_said_to_hold_on_the_page() -> None:
    result = sample(50)
    text = render_html(result, gate=judge(result, [parse_bound("max_nfr", "1")]).shown())
    assert '<section class="gate kept"' in text
    assert "✓</span> Kept</h2>" in text


def test_the_footer_says_which_intervals_these_are() -> None:
    text = render_html(sample(50))
    assert "a score interval for the relative NFR" in text
    assert "a bootstrap for" not in text


def test_a_page_without_flips_does_not_list_other_instances_as_if_they_were_some() -> None:
    gold = [0, 1] * 20
    said = [0, 0] * 20
    result = compare_runs(run("v1", answers(said, gold)), run("v2", answers(said, gold, source="v2.jsonl")))
    shown = Page(render_html(result))
    assert "This page holds no flip, as there is none, and all 40 other instances." in shown.shown
    assert 'present[kind]) || "negative_flip"' in shown.blocks["script"][1], "the list begins with the flips, if empty"
