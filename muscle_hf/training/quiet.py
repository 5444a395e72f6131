"""What libraries print beside a training: no bars but ours."""

import warnings

import datasets
import transformers


def quiet_libraries() -> None:
    """Leave the terminal to the progress bars of this package."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # transformers renames gradient checkpointing, and trl and peft still use the old name.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated", category=FutureWarning)
    # PEFT looks for tied weights once more when an adapter is loaded, after it has tied them.
    warnings.filterwarnings("ignore", message=".*requested `ensure_weight_tying`")
