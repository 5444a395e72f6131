"""The page of the Space: two files of predictions; what the update broke, how sure that is, and every flip."""

from pathlib import Path

import gradio as gr

from muscle_hf.spaces.pages import Given, Options, negative_flips

CARD = Path(__file__).resolve().with_name("README.md").read_text(encoding="utf-8").split("---", 2)[2]
KINDS = [".csv", ".tsv", ".jsonl", ".json", ".parquet"]

CAPITALS = (
    """\
id,question,prediction,reference
1,Capital of France?,Paris,Paris
2,Capital of Switzerland?,Bern,Bern
3,Capital of Austria?,Graz,Vienna
4,Capital of Italy?,Rome,Rome
5,Capital of Norway?,Oslo,Oslo
6,Capital of Latvia?,Oslo,Riga
7,Capital of Spain?,Madrid,Madrid
8,Capital of Turkey?,Istanbul,Ankara
""",
    """\
id,prediction,reference
1,Paris,Paris
2,Zurich,Bern
3,Vienna,Vienna
4,Rome,Rome
5,Bergen,Oslo
6,Tallinn,Riga
7,Madrid,Madrid
8,Ankara,Ankara
""",
)
# The second model answers in another order, and one question not at all.
CLASSES = (
    """\
{"id": "a", "prediction": 1, "reference": 1}
{"id": "b", "prediction": 1, "reference": 1}
{"id": "c", "prediction": 0, "reference": 2}
{"id": "d", "prediction": 2, "reference": 2}
""",
    """\
{"id": "d", "prediction": 2, "reference": 2}
{"id": "a", "prediction": 1, "reference": 1}
{"id": "b", "prediction": null, "reference": 1}
{"id": "c", "prediction": 2, "reference": 2}
""",
)
EXAMPLES = {"Capitals, CSV": CAPITALS, "Class ids, JSON Lines": CLASSES}


def show(old_text, old_file, new_text, new_file, columns="", allow_missing=False, by_position=False, normalize=""):
    """Return the findings, the flipped rows and the report, or what is wrong with the input."""
    options = Options(columns, allow_missing, by_position, normalize)
    view = negative_flips(Given(old_text, old_file), Given(new_text, new_file), options)
    rows = gr.Dataframe(value=view.rows, visible=bool(view.rows["data"]))
    return view.html, rows, gr.DownloadButton(value=view.report, visible=view.report is not None)


with gr.Blocks(title="Negative flips", analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
    gr.Markdown(
        "# Negative flips\nWhich answers did the update break? Give the predictions of both models as CSV or JSON "
        "Lines with `id`, `prediction` and `reference`."
    )
    given = []
    with gr.Row():
        for side in ("Old model", "New model"):
            with gr.Column(min_width=280):
                text = gr.Textbox(
                    label=f"{side}: paste", lines=8, max_lines=8, placeholder="id,prediction,reference\n1,Paris,Paris"
                )
                file = gr.File(label=f"{side}: or upload", file_types=KINDS, height=140)
                file.upload(lambda: "", outputs=text, show_progress="hidden", api_visibility="private")
                given += [text, file]
    with gr.Accordion("Options", open=False):
        options = [
            gr.Textbox(label="Column names, where they differ", placeholder="id=question_id, reference=gold"),
            gr.Checkbox(label="Leave out rows that only one file has"),
            gr.Checkbox(label="Join row by row, for files without ids"),
            gr.Textbox(label="What need not count", placeholder="case, whitespace, quotes, numbers; or none"),
        ]
    button = gr.Button("Compare", variant="primary")
    found = [
        gr.HTML(apply_default_css=False, render=False),
        # Without the button that copies: a spreadsheet would run a copied cell that begins like a formula.
        gr.Dataframe(
            label="Flipped rows",
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
        [[old, None, new, None] for old, new in EXAMPLES.values()],
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
