"""The page of the Space: paste three columns of answers, read the rates."""

import math
from pathlib import Path

import evaluate
import gradio as gr

# By path, so that the Space shows the module that lies beside this file.
metric = evaluate.load(str(Path(__file__).resolve().with_name("negative_flips.py")))

CARD = Path(__file__).resolve().with_name("README.md").read_text(encoding="utf-8").split("---", 2)[2]

EXAMPLES = [
    ["Paris\nBern\nVienna\nRome", "Paris\nBerne\nVienna\nRom", "Paris\nBern\nVienna\nRome"],
    ["1\n1\n0\n1", "1\n0\n1\n1", "1\n1\n1\n1"],
]


def answers(text):
    """Split a text into one answer a line; an empty line is an example without an answer."""
    return [line.strip() or None for line in text.rstrip("\n").split("\n")] if text.strip() else []


def measure(old, new, references):
    """Return the rows of the result table for three texts with one answer a line."""
    try:
        results = metric.compute(
            predictions=answers(new), old_predictions=answers(old), references=answers(references)
        )
    except ValueError as error:
        # What is wrong with the input belongs on the page; without this the visitor reads "Error".
        raise gr.Error(str(error)) from None
    low, high = results.pop("confidence_interval")
    rows = [[name, "undefined" if math.isnan(value) else f"{value:.4g}"] for name, value in results.items()]
    rows.insert(1, ["95 % interval of the negative_flip_rate", f"{low:.4g} to {high:.4g}"])
    return rows


with gr.Blocks(title="Negative flips") as demo:
    gr.Markdown("# Negative flips\nWhich answers did the update break? One answer a line, in the same order.")
    with gr.Row():
        old_box = gr.Textbox(label="Old model", lines=8)
        new_box = gr.Textbox(label="New model", lines=8)
        reference_box = gr.Textbox(label="Right answers", lines=8)
    button = gr.Button("Compare", variant="primary")
    table = gr.Dataframe(headers=["measure", "value"], interactive=False, label="Results")
    gr.Examples(EXAMPLES, inputs=[old_box, new_box, reference_box])
    button.click(measure, inputs=[old_box, new_box, reference_box], outputs=table)
    gr.Markdown(CARD)

if __name__ == "__main__":
    demo.launch()
