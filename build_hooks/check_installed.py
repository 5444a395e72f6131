"""The README's first lines, run by `make dist` with an installed wheel: `python -I` sees nothing of a checkout."""

import re
import sys
from pathlib import Path

import muscle_hf

README = Path(__file__).parents[1] / "README.md"
place = Path(muscle_hf.__file__).parent
if Path(sys.prefix) not in place.parents:
    sys.exit(f"muscle_hf was found in {place}, not in the environment of this Python, {sys.prefix}")
measure = README.read_text(encoding="utf-8").split("\n## Measure\n")[1].split("\n## ")[0]
first, *others = re.findall(r"^```python\n(.*?)^```$", measure, re.DOTALL | re.MULTILINE)
exec(first, {"__name__": "readme"})  # noqa: S102 - our own README
if "torch" in sys.modules:
    sys.exit("measuring has loaded torch")
for block in others:  # evaluate loads torch itself
    exec(block, {"__name__": "readme"})  # noqa: S102 - our own README

from muscle_hf import CompatibilityConfig, CompatibilityTrainer  # noqa: E402 - what measuring loads was looked at first

print(f"{CompatibilityTrainer.__name__} and {CompatibilityConfig.__name__} are there: {place}")  # noqa: T201
