"""Fonts for the letters of a picture: names and tasks may be written in any script."""

import unicodedata

from ..text import printable

# Fonts with what DejaVu Sans has not, which comes with matplotlib; used where they are installed.
_MORE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "PingFang SC", "Hiragino Sans"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "WenQuanYi Zen Hei", "Noto Sans Devanagari", "Noto Sans Thai"),
    *("Noto Sans Bengali", "Noto Sans Tamil", "Arial Unicode MS"),
)


class Fonts:
    """Finds a font for each letter, so that none shows as a box and matplotlib has nothing to warn of."""

    def __init__(self) -> None:
        """Start with no letter looked up."""
        self.homes: dict[tuple[str, str], str | None] = {}

    def fit(self, text: str, weight: str) -> tuple[str, list[str]]:
        """Give a text with escapes in place of letters that no font has, and the fonts it needs."""
        letters, families = [], ["DejaVu Sans"]
        for letter in printable(text):
            # What joins, turns or varies other letters cannot be seen by itself.
            if unicodedata.category(letter) == "Cf" or "\ufe00" <= letter <= "\ufe0f":
                continue
            home = self.home(letter, weight)
            if home and home not in families:
                families.append(home)
            letters.append(letter if home else letter.encode("ascii", "backslashreplace").decode())
        return "".join(letters), families

    def home(self, letter: str, weight: str) -> str | None:
        """Give the first font that has a letter, or None."""
        from matplotlib.font_manager import FontProperties, findfont, get_font

        if (letter, weight) not in self.homes:
            self.homes[letter, weight] = None
            for family in ("DejaVu Sans", *_MORE_FONTS):
                try:
                    file = findfont(FontProperties(family=[family], weight=weight), fallback_to_default=False)
                except ValueError:
                    continue
                if get_font(file).get_char_index(ord(letter)):
                    self.homes[letter, weight] = family
                    break
        return self.homes[letter, weight]
