"""`python -m muscle_hf` is `muscle-hf`."""

import sys

from .cli import main

sys.exit(main())
