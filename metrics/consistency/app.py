"""The page of the Space: two files of predictions; how often both models say the same, and every row where not."""

from pathlib import Path

import gradio as gr

from muscle_hf.spaces.pages import Given, Options, consistency

CARD = Path(__file__).resolve().with_name("README.md").read_text(encoding="utf-8").split("---", 2)[2]
KINDS = [".csv", ".tsv", ".jsonl", ".json", ".parquet"]

TRAFFIC = (
    """\
id,prediction
1,refund
2,refund
3,shipping
4,other
5,shipping
6,refund
7,invoice
8,other
""",
    """\
id,prediction
1,refund
2,invoice
3,shipping
4,other
5,shipping
6,refund
7,invoice
8,shipping
""",
)
CLASSES = (
    """\
{"id": "a", "prediction": 1, "reference": 1}
{"id": "b", "prediction": 0, "reference": 1}
{"id": "c", "prediction": 2, "reference": 1}
{"id": "d", "prediction": 1, "reference": 1}
""",
    """\
{"id": "a", "prediction": 1, "reference": 1}
{"id": "b", "prediction": 0, "reference": 1}
{"id": "c", "prediction": 0, "reference": 1}
{"id": "d", "prediction": 2, "reference": 1}
""",
)
EXAMPLES = {"Plain traffic, CSV": TRAFFIC, "With right answers, JSON Lines": CLASSES}


def show(old_text, old_file, new_text, new_file, columns="", allow_missing=False, by_position=False, normalize=""):
    """Return the findings, the rows that differ and the report, or what is wrong with the input."""
    options = Options(columns, allow_missing, by_position, normalize)
    view = consistency(Given(old_text, old_file), Given(new_text, new_file), options)
    rows = gr.Dataframe(value=view.rows, visible=bool(view.rows["data"]))
    return view.html, rows, gr.DownloadButton(value=view.report, visible=view.report is not None)


with gr.Blocks(title="Consistency", analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
    gr.Markdown(
        "# Consistency\nDo two models give the same answers? Give the predictions of both as CSV or JSON Lines "
        "with `id`, `prediction` and, if you know the right answers, `reference`."
    )
    given = []
    with gr.Row():
        for side in ("Old model", "New model"):
            with gr.Column(min_width=280):
                text = gr.Textbox(label=f"{side}: paste", lines=8, max_lines=8, placeholder="id,prediction\n1,Paris")
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
            label="Rows with other answers",
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
