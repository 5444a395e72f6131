"""The README's first lines, run with an installed wheel and nothing of a checkout: `make dist` does it."""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
# Python puts the folder of a script first, and nothing of a checkout may stand in for what is installed.
sys.path.pop(0)

import muscle_hf  # noqa: E402 - not before the line above

place = Path(muscle_hf.__file__).parent
if Path(sys.prefix) not in place.parents:
    sys.exit(f"muscle_hf was found in {place}, not in the environment of this Python, {sys.prefix}")
measure = README.read_text(encoding="utf-8").split("\n## Measure\n")[1].split("\n## ")[0]
for block in re.findall(r"^```python\n(.*?)^```$", measure, re.DOTALL | re.MULTILINE):
    exec(block, {"__name__": "readme"})  # noqa: S102 - our own README
if "torch" in sys.modules:
    sys.exit("measuring has loaded torch")

from muscle_hf import CompatibilityConfig, CompatibilityTrainer  # noqa: E402 - what measuring loads was looked at first

print(f"{CompatibilityTrainer.__name__} and {CompatibilityConfig.__name__} are there: {place}")  # noqa: T201
