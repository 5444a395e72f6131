"""Tables of the page."""

from collections.abc import Iterable, Sequence

from .html import plain


def grid(label: str, titles: Sequence[str], rows: Iterable[Sequence[str]], **classes: int) -> str:
    """Lay out cells as a table that scrolls in a frame of its own; the first cell of a row is its heading."""
    marks = {column: f' class="{name}"' for name, column in classes.items()}

    def line(cells: Sequence[str], scope: str, tag: str) -> str:
        first, *others = cells
        shown = "".join(f"<{tag}{marks.get(place, '')}>{cell}</{tag}>" for place, cell in enumerate(others, start=1))
        return f'<tr><th scope="{scope}">{first}</th>{shown}</tr>'

    body = "".join(line(row, "row", "td") for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{plain(label)}"><table><thead>'
        f"{line(titles, 'col', 'th')}</thead><tbody>{body}</tbody></table></div>"
    )
