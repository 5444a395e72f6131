"""The page of the Space: two files of texts or scores; what the update made worse, how sure that is, and where."""

from pathlib import Path

import gradio as gr

from muscle_hf.flips.scorers import SCORERS
from muscle_hf.spaces.pages import SCORES, Given, Options, smooth_compatibility

CARD = Path(__file__).resolve().with_name("README.md").read_text(encoding="utf-8").split("---", 2)[2]
KINDS = [".csv", ".tsv", ".jsonl", ".json", ".parquet"]

SUMMARIES = (
    """\
id,prediction,reference
1,Amanda baked cookies.,Amanda baked cookies for Jerry.
2,Tom is late.,Tom will be late for lunch.
3,They meet at the station.,They meet at the station at six.
4,Rita lost her keys.,Rita lost her keys again.
""",
    """\
id,prediction,reference
1,Amanda baked cookies for Jerry.,Amanda baked cookies for Jerry.
2,Tom has lunch.,Tom will be late for lunch.
3,They meet at six.,They meet at the station at six.
4,Rita lost her keys.,Rita lost her keys again.
""",
)
GRADES = (
    """\
{"id": "a", "score": 0.71}
{"id": "b", "score": 0.40}
{"id": "c", "score": 0.52}
{"id": "d", "score": 0.90}
""",
    """\
{"id": "a", "score": 0.70}
{"id": "b", "score": 0.52}
{"id": "c", "score": 0.30}
{"id": "d", "score": 0.90}
""",
)
EXAMPLES = {"Summaries by ROUGE-1, CSV": (*SUMMARIES, "rouge1", 0.0), "Scores, JSON Lines": (*GRADES, SCORES, 0.02)}


def show(
    old_text, old_file, new_text, new_file, scorer, tolerance, columns="", allow_missing=False, by_position=False
):
    """Return the findings, the rows that changed and the report, or what is wrong with the input."""
    options = Options(columns, allow_missing, by_position)
    old, new = Given(old_text, old_file), Given(new_text, new_file)
    view = smooth_compatibility(old, new, options, scorer=scorer, tolerance=tolerance)
    rows = gr.Dataframe(value=view.rows, visible=bool(view.rows["data"]))
    return view.html, rows, gr.DownloadButton(value=view.report, visible=view.report is not None)


with gr.Blocks(title="Smooth compatibility", analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
    gr.Markdown(
        "# Smooth compatibility\nWhich texts did the update make worse? Give the texts of both models as CSV or "
        "JSON Lines with `id`, `prediction` and `reference`, or scores of your own as `id` and `score`."
    )
    given = []
    with gr.Row():
        for side in ("Old model", "New model"):
            with gr.Column(min_width=280):
                text = gr.Textbox(
                    label=f"{side}: paste",
                    lines=8,
                    max_lines=8,
                    placeholder="id,prediction,reference\n1,The cat sat.,The cat sat down.",
                )
                file = gr.File(label=f"{side}: or upload", file_types=KINDS, height=140)
                file.upload(lambda: "", outputs=text, show_progress="hidden", api_visibility="private")
                given += [text, file]
    with gr.Row():
        given.append(gr.Dropdown([*SCORERS, SCORES], value="rouge1", label="Scorer"))
        given.append(gr.Number(0.0, minimum=0.0, step=0.01, label="Tolerance: changes up to this size count as none"))
    with gr.Accordion("Options", open=False):
        options = [
            gr.Textbox(label="Column names, where they differ", placeholder="id=question_id, reference=gold"),
            gr.Checkbox(label="Leave out rows that only one file has"),
            gr.Checkbox(label="Join row by row, for files without ids"),
        ]
    button = gr.Button("Compare", variant="primary")
    found = [
        gr.HTML(apply_default_css=False, render=False),
        # Without the button that copies: a spreadsheet would run a copied cell that begins like a formula.
        gr.Dataframe(
            label="Changed rows, the worst first",
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
        [[old, None, new, None, *how] for old, new, *how in EXAMPLES.values()],
        inputs=given,
        outputs=found,
        fn=show,
        run_on_click=True,
        cache_examples=False,
        example_labels=list(EXAMPLES),
    )
    for part in found:
        part.render()
    button.click(show, inputs=[*given, *options], outputs=found, api_name="compare")
    with gr.Accordion("About this metric", open=False):
        gr.Markdown(CARD)

if __name__ == "__main__":
    demo.launch(max_file_size="50mb", run_history=False)
