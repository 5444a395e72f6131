"""The page of the Space: paste the texts of two models and the right ones, read the rates."""

import math
from pathlib import Path

import evaluate
import gradio as gr

from muscle_hf.scorers import SCORERS

# By path, so that the Space shows the module that lies beside this file.
metric = evaluate.load(str(Path(__file__).resolve().with_name("smooth_compatibility.py")))

CARD = Path(__file__).resolve().with_name("README.md").read_text(encoding="utf-8").split("---", 2)[2]

EXAMPLES = [
    [
        "the cat sat\na dog\nrain",
        "the cat sat on the mat\na dog\nsnow",
        "the cat sat on the mat\na dog barks\nrain today",
    ],
    ["Amanda baked cookies.\nTom is late.", "Amanda baked.\nTom is late.", "Amanda baked cookies.\nTom will be late."],
]


def answers(text):
    """Split a text into one answer a line; an empty line is an example without an answer."""
    return [line.strip() or None for line in text.rstrip("\n").split("\n")] if text.strip() else []


def measure(old, new, references, scorer="rouge1", tolerance=0.0):
    """Return the rows of the result table for three texts with one answer a line."""
    try:
        results = metric.compute(
            predictions=answers(new),
            old_predictions=answers(old),
            references=answers(references),
            scorer=scorer,
            tolerance=tolerance,
        )
    except ValueError as error:
        # What is wrong with the input belongs on the page; without this the visitor reads "Error".
        raise gr.Error(str(error)) from None
    intervals = {"confidence_interval": "negative_flip_rate", "mean_change_interval": "mean_change"}
    rows = []
    for name, value in results.items():
        if name in intervals:
            low, high = value
            shown = "undefined" if math.isnan(low) else f"{low:.4g} to {high:.4g}"
            rows.append([f"95 % interval of the {intervals[name]}", shown])
        else:
            rows.append([name, "undefined" if math.isnan(value) else f"{value:.4g}"])
    return rows


with gr.Blocks(title="Smooth compatibility") as demo:
    gr.Markdown("# Smooth compatibility\nWhich texts did the update make worse? One text a line, in the same order.")
    with gr.Row():
        old_box = gr.Textbox(label="Old model", lines=8)
        new_box = gr.Textbox(label="New model", lines=8)
        reference_box = gr.Textbox(label="Right texts", lines=8)
    with gr.Row():
        scorer_box = gr.Dropdown(list(SCORERS), value="rouge1", label="Scorer")
        tolerance_box = gr.Number(0.0, label="Tolerance, on a scale of 0 to 1")
    button = gr.Button("Compare", variant="primary")
    table = gr.Dataframe(headers=["measure", "value"], interactive=False, label="Results")
    gr.Examples(EXAMPLES, inputs=[old_box, new_box, reference_box])
    button.click(measure, inputs=[old_box, new_box, reference_box, scorer_box, tolerance_box], outputs=table)
    gr.Markdown(CARD)

if __name__ == "__main__":
    demo.launch()
