"""Where a model runs that answers: in this process, in vLLM, or behind an endpoint."""

from .endpoint import OpenAIEngine
from .in_process import TransformersEngine
from .interface import Engine
from .offline import VLLMEngine

__all__ = ["Engine", "OpenAIEngine", "TransformersEngine", "VLLMEngine"]
