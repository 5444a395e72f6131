"""A page that stands alone: verdict, quadrants to scale, slices, and the instances to search, filter and read.

Everything that a reader needs to judge the update is in the HTML itself; only the list of instances needs the page's
script. It travels as gzipped JSON, because texts compress about threefold. Names and texts come from models and files:
here they are escaped, and the script puts them into the document as text alone.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from ...files import replaced
from ..cells import Cell
from ..outcomes import Outcomes
from ..report import GateShown
from .instances import encode_instances
from .sections import page_fields
from .trend import history_section

__all__ = ["render_html", "write_html"]

BUDGET = 1_900_000
"""Bytes of a page. All flips are shown whatever they take; of the other instances, as many as fit."""
_LEAST = 600_000  # bytes for instances, however long the tables are


def render_html(outcomes: Outcomes, models: Sequence[Sequence[Cell]] = (), gate: GateShown | None = None) -> str:
    """Show a comparison as one HTML page that needs nothing else: no network, no other file.

    A table of this and other new models beside the old one (titles, then rows) may stand before everything else. All
    flips are in the page, and of the other instances as many as fit into about 2 MB, drawn at random with a fixed
    seed; the page says how many of how many. The same comparison gives the same page.
    """
    template = files(__package__).joinpath("template.html").read_text(encoding="utf-8")
    fields = page_fields(outcomes, models, gate) | {"policy": _policy(template)}
    fields["history"] = history_section(gate.history) if gate and gate.history else ""
    frame = sum(len(value.encode("utf-8", "replace")) for value in (template, *fields.values()))
    fields["data"], fields["about"] = encode_instances(outcomes, max(BUDGET - frame, _LEAST))
    # In one pass, so that a text that looks like a field stays a text.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fields[match[1]], template)


def write_html(
    outcomes: Outcomes,
    path: str | Path,
    models: Sequence[Sequence[Cell]] = (),
    gate: GateShown | None = None,
) -> Path:
    """Write the page of `render_html`; where that fails an older one is still as it was."""
    page = render_html(outcomes, models, gate).encode("utf-8", "replace")
    with replaced(path) as temporary:
        temporary.write_bytes(page)
    return Path(path)


def _policy(template: str) -> str:
    """Allow the styles and the script that the template brings along, and nothing else."""
    allowed = []
    for tag in ("style", "script"):
        block = template.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        allowed.append(f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'")
    return f"default-src 'none'; {'; '.join(allowed)}; img-src data:; base-uri 'none'; form-action 'none'"
