"""The Gradio page of all metric Spaces: two files of predictions; what they show, and every row that changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ..flips.scorers import SCORERS
from .examples import CAPITALS, CLAIMS, CLASSES, ERRORS, GRADES, SUMMARIES, SUPPORTED, TRAFFIC
from .pages import SCORES, Given, Options, View, consistency, negative_bias, negative_flips, smooth_compatibility

_KINDS = [".csv", ".tsv", ".jsonl", ".json", ".parquet"]


@dataclass(frozen=True)
class Page:
    """What is particular to one metric's page."""

    question: str
    """What it answers, and what has to be given."""
    placeholder: str
    """How a pasted table begins."""
    rows: str
    """Title of the table of rows."""
    show: Callable[..., tuple[Any, ...]]
    """Takes the values of the page, and gives the findings, the rows and the report."""
    examples: Mapping[str, tuple[Any, ...]]
    """Title -> both tables, and what the boxes of `more` hold."""
    more: Callable[[], list[Any]] = list
    """Makes the boxes that this page alone has, of what comes after the tables."""
    normalizes: bool = True
    """Whether spellings of answers may count as the same."""


def _shown(view: View) -> tuple[Any, ...]:
    rows = gr.Dataframe(value=view.rows, visible=bool(view.rows["data"]))
    return view.html, rows, gr.DownloadButton(value=view.report, visible=view.report is not None)


# Their arguments are the names of the Space's API.
def _show_answers(view: Callable[..., View]) -> Callable[..., tuple[Any, ...]]:
    def show(  # type: ignore[no-untyped-def]
        old_text, old_file, new_text, new_file, columns="", allow_missing=False, by_position=False, normalize=""
    ):
        options = Options(columns, allow_missing, by_position, normalize)
        return _shown(view(Given(old_text, old_file), Given(new_text, new_file), options))

    return show


def _show_scores(  # type: ignore[no-untyped-def]
    old_text, old_file, new_text, new_file, scorer, tolerance, columns="", allow_missing=False, by_position=False
):
    old, new, options = (
        Given(old_text, old_file),
        Given(new_text, new_file),
        Options(columns, allow_missing, by_position),
    )
    return _shown(smooth_compatibility(old, new, options, scorer=scorer, tolerance=tolerance))


def _show_yes_no(  # type: ignore[no-untyped-def]
    old_text,
    old_file,
    new_text,
    new_file,
    positive="yes",
    negative="no",
    columns="",
    allow_missing=False,
    by_position=False,
    normalize="",
):
    old, new = Given(old_text, old_file), Given(new_text, new_file)
    options = Options(columns, allow_missing, by_position, normalize)
    return _shown(negative_bias(old, new, options, positive=positive, negative=negative))


def _scoring() -> list[Any]:
    tolerance = "Tolerance: changes up to this size count as none"
    return [
        gr.Dropdown([*SCORERS, SCORES], value="rouge1", label="Scorer"),
        gr.Number(0.0, minimum=0.0, step=0.01, label=tolerance),
    ]


def _labels() -> list[Any]:
    return [
        gr.Textbox("yes", label="Yes is", placeholder="yes, true"),
        gr.Textbox("no", label="No is", placeholder="no, false"),
    ]


PAGES = {
    "negative_flips": Page(
        "Which answers did the update break? Give the predictions of both models as CSV or JSON Lines with `id`, "
        "`prediction` and `reference`.",
        "id,prediction,reference\n1,Paris,Paris",
        "Flipped rows",
        _show_answers(negative_flips),
        {"Capitals, CSV": CAPITALS, "Class ids, JSON Lines": CLASSES},
    ),
    "consistency": Page(
        "Do two models give the same answers? Give the predictions of both as CSV or JSON Lines with `id`, "
        "`prediction` and, if you know the right answers, `reference`.",
        "id,prediction\n1,Paris",
        "Rows with other answers",
        _show_answers(consistency),
        {"Plain traffic, CSV": TRAFFIC, "With right answers, JSON Lines": ERRORS},
    ),
    "negative_bias": Page(
        "Did the update turn yes/no answers towards no, or lose the ability to tell? Give the predictions of both "
        "models as CSV or JSON Lines with `id`, `prediction` and `reference`, and name the labels.",
        "id,prediction,reference\n1,yes,no",
        "Flipped rows",
        _show_yes_no,
        {"Is it said? CSV": (*CLAIMS, "yes", "no"), "Supported or not, JSON Lines": (*SUPPORTED, "1", "0")},
        _labels,
    ),
    "smooth_compatibility": Page(
        "Which texts did the update make worse? Give the texts of both models as CSV or JSON Lines with `id`, "
        "`prediction` and `reference`, or scores of your own as `id` and `score`.",
        "id,prediction,reference\n1,The cat sat.,The cat sat down.",
        "Changed rows, the worst first",
        _show_scores,
        {"Summaries by ROUGE-1, CSV": (*SUMMARIES, "rouge1", 0.0), "Scores, JSON Lines": (*GRADES, SCORES, 0.02)},
        _scoring,
        normalizes=False,
    ),
}


def build_page(name: str, card: Path) -> Any:
    """Build the page of a metric; `card` is the README.md of its Space."""
    page, title = PAGES[name], name.replace("_", " ").capitalize()
    about = card.read_text(encoding="utf-8").split("---", 2)[2]
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        gr.Markdown(f"# {title}\n{page.question}")
        given = []
        with gr.Row():
            for side in ("Old model", "New model"):
                with gr.Column(min_width=280):
                    text = gr.Textbox(label=f"{side}: paste", lines=8, max_lines=8, placeholder=page.placeholder)
                    file = gr.File(label=f"{side}: or upload", file_types=_KINDS, height=140)
                    file.upload(lambda: "", outputs=text, show_progress="hidden", api_visibility="private")
                    given += [text, file]
        if page.more is not list:
            with gr.Row():
                given += page.more()
        with gr.Accordion("Options", open=False):
            options = [
                gr.Textbox(label="Column names, where they differ", placeholder="id=question_id, reference=gold"),
                gr.Checkbox(label="Leave out rows that only one file has"),
                gr.Checkbox(label="Join row by row, for files without ids"),
            ]
            if page.normalizes:
                spelling = "case, whitespace, quotes, numbers; or none"
                options.append(gr.Textbox(label="What need not count", placeholder=spelling))
        button = gr.Button("Compare", variant="primary")
        found = [
            gr.HTML(apply_default_css=False, render=False),
            # Without the button that copies: a spreadsheet would run a copied cell that begins like a formula.
            gr.Dataframe(
                label=page.rows,
                visible=False,
                interactive=False,
                wrap=True,
                show_search="search",
                buttons=["fullscreen"],
                render=False,
            ),
            gr.DownloadButton("Download the report: one page with everything", visible=False, render=False),
        ]
        gr.Examples(
            [[old, None, new, None, *how] for old, new, *how in page.examples.values()],
            inputs=given,
            outputs=found,
            fn=page.show,
            run_on_click=True,
            cache_examples=False,
            example_labels=list(page.examples),
        )
        for part in found:
            part.render()
        button.click(page.show, inputs=[*given, *options], outputs=found, api_name="compare")
        with gr.Accordion("About this metric", open=False):
            gr.Markdown(about)
    return demo
