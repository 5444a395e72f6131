"""The section of the page about classes of right answers."""

from ..classes import HEAD, classes_shown
from ..outcomes import Outcomes
from .html import cell_html, name_of, plain, typeset
from .tables import grid

_ROWS = 100  # of a task


def classes_section(outcomes: Outcomes) -> str:
    """Lay out what broke in each class, the worst first; empty where no task shows its classes."""
    told = ""
    for shown in classes_shown(outcomes.compared, outcomes.level, _ROWS):
        rows = [[name_of(str(name)), *map(cell_html, others)] for name, *others in shown.rows]
        table = grid(f"Classes of {shown.task}", [*map(plain, HEAD)], rows)
        notes = "".join(f'<p class="aside">{typeset(note)}</p>' for note in shown.notes)
        told += f"<p>{typeset(shown.told)}.</p>{table}{notes}"
    if not told:
        return ""
    return f'<section aria-labelledby="classes"><h2 id="classes">Classes</h2>{told}</section>'
