"""DeepSpeed on CPUs, as a launcher would set it up on GPUs."""

import json
import os
from pathlib import Path
from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType


def use_deepspeed(folder: Path, stage: int = 3, **zero: Any) -> None:
    """Let the trainers of this process use DeepSpeed; accelerate would take it on a CPU for one process alone."""
    import deepspeed

    config = {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {"stage": stage} | zero,
    }
    file = folder / f"deepspeed-{os.environ.get('RANK', '0')}.json"
    file.write_text(json.dumps(config))
    os.environ |= {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # which would be compiled first
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_CPU)  # type: ignore[method-assign]
