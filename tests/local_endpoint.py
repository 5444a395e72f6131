"""A server on this machine with OpenAI's interface and vLLM's additions to it, which lets a tiny model answer.

Its greedy decoding and its log-probabilities are the plainest there are, a forward pass for each token, so that they
are not those of the package. Faults are handed out one a request, in the order in which requests arrive.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

DROP, CUT = "the connection is dropped", "the answer is cut off"


@dataclass
class Endpoint:
    """A running server.

    Attributes:
        gives: What it says of log-probabilities: "prompts" (as vLLM), "answers" (of what it generates), "nothing", or
            "refuses" (to be asked).
        faults: What becomes of the next requests: a status, a status with headers and a body, `DROP`, `CUT`, a
            function that changes the answer, or None for nothing.
        requests: The path, the headers and the body of each request.
        before: Called when a request has arrived, before it is answered.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    gives: str = "prompts"
    faults: list[Any] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    most_at_once: int = 0
    url: str = ""
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a request as vLLM would."""
        is_chat = path.endswith("/chat/completions")
        known = {"model", "temperature", "max_tokens", "logprobs", "prompt", "echo"}
        known |= {"messages", "prompt_logprobs", "add_generation_prompt", "continue_final_message"}
        assert not set(body) - known, "a field that not every server knows"
        assert body["temperature"] == 0
        if is_chat:
            text = self.tokenizer.apply_chat_template(
                body["messages"],
                tokenize=False,
                add_generation_prompt=body.get("add_generation_prompt", True),
                continue_final_message=body.get("continue_final_message", False),
            )
        else:
            text = body["prompt"]
        prompt = self.tokenizer(text, add_special_tokens=not is_chat)["input_ids"]
        with self._lock:
            answer, reason, logs = self._greedy(prompt, body["max_tokens"])
            before = self._logs(prompt) if body.get("echo") or "prompt_logprobs" in body else []
        said = self.tokenizer.decode([token for token in answer if token != self.tokenizer.eos_token_id])
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        if is_chat:
            choice["message"] = {"role": "assistant", "content": said}
            choice["logprobs"] = {"content": [{"token": "", "logprob": log} for log in logs]}
        else:
            choice["text"] = text + said if body.get("echo") else said
            choice["logprobs"] = {"token_logprobs": (before if body.get("echo") else []) + logs}
        if not body.get("logprobs") or self.gives == "nothing" or (self.gives == "answers" and body.get("echo")):
            choice["logprobs"] = None
        whole = {
            "object": "chat.completion" if is_chat else "text_completion",
            "choices": [choice],
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": len(answer)},
        }
        if is_chat and "prompt_logprobs" in body and self.gives == "prompts":
            whole["prompt_logprobs"] = [
                None
                if log is None
                else {str(token): {"logprob": log, "decoded_token": self.tokenizer.decode([token])}}
                for token, log in zip(prompt, before, strict=True)
            ]
        return whole

    def _greedy(self, prompt: list[int], longest: int) -> tuple[list[int], str, list[float]]:
        tokens, logs = list(prompt), []
        while len(tokens) < len(prompt) + longest:
            with torch.no_grad():
                scores = self.model(input_ids=torch.tensor([tokens])).logits[0, -1].log_softmax(-1)
            tokens.append(int(scores.argmax()))
            logs.append(float(scores.max()))
            if tokens[-1] == self.tokenizer.eos_token_id:
                return tokens[len(prompt) :], "stop", logs
        return tokens[len(prompt) :], "length", logs

    def _logs(self, tokens: list[int]) -> list[float | None]:
        with torch.no_grad():
            scores = self.model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
        return [None, *(float(scores[place, token]) for place, token in enumerate(tokens[1:]))]

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        """Take a request, and answer it or do what the next fault says."""
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.requests.append((handler.path, dict(handler.headers.items()), body))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            fault = self.faults.pop(0) if self.faults else None
        try:
            self.before()
        finally:
            with self._lock:
                self._at_once -= 1
        if fault == DROP:
            # A reset, as of a server that dies.
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return
        if handler.path not in ("/v1/completions", "/v1/chat/completions"):
            fault = 404
        if self.gives == "refuses" and {"logprobs", "prompt_logprobs"} & set(body):
            fault = (422, {}, {"detail": "Unexpected fields in the request: {'logprobs'}"})
        status, headers, said = fault if isinstance(fault, tuple) else (fault, {}, {"error": {"message": "not now"}})
        if not isinstance(status, int):
            status, said = 200, self.answer(handler.path, body)
        if callable(fault):
            said = fault(said)
        content = said if isinstance(said, bytes) else json.dumps(said).encode()
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:10] if fault == CUT else content)
        if fault == CUT:
            handler.close_connection = True


@contextmanager
def endpoint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **options: Any) -> Iterator[Endpoint]:
    """Start a server for a model, and stop it at the end."""
    served = Endpoint(model, tokenizer, **options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            served.take(self)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            pass  # a client may let go of its connection at any time

    server = Server(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
