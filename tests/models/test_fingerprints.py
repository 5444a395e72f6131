"""Fingerprints change with what decides a teacher's output, and with nothing else."""

import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import fresh
import huggingface_hub
import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, Features, IterableDataset, LargeList, List, Value
from peft import LoraConfig, PeftModel
from tiny_models import CHAT_TEMPLATE, tiny_adapter, tiny_llama, tiny_tokenizer

import muscle_hf.models.fingerprints
from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.models.fingerprints import fingerprint_of_model, fingerprint_of_rows, fingerprint_of_tokenizer

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(name="base")
def _base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    tiny_llama(1, tiny_tokenizer(), layers=1).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(name="adapter")
def _adapter(tmp_path: Path, base: Path) -> Path:
    model = tiny_llama(1, tiny_tokenizer(), layers=1)
    model.name_or_path = str(base)
    adapted = tiny_adapter(model, 2)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def _change_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def _flip_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    # Faster than the clock of some file systems, a test must not rely on its ticks.
    state = file.stat()
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


class TestFolders:
    def test_a_copy_of_a_model_is_another_model(self, base: Path, adapter: Path, tmp_path: Path) -> None:
        first = fingerprint_of_model(base, adapter)
        copies = [Path(shutil.copytree(one, tmp_path / "copies" / one.name)) for one in (base, adapter)]
        assert fingerprint_of_model(str(copies[0]), str(copies[1])) == first
        assert {value[:6] for value in first.values()} == {"files:"}

    def test_a_changed_weight_is_missed_in_one_process(self, base: Path, adapter: Path) -> None:
        first = fingerprint_of_model(base, adapter)
        _flip_last_byte(base / "model.safetensors")
        second = fingerprint_of_model(base, adapter)
        assert second["base"] != first["base"]
        assert second["adapter"] == first["adapter"]
        _flip_last_byte(adapter / "adapter_model.safetensors")
        third = fingerprint_of_model(base, adapter)
        assert third["base"] == second["base"]
        assert third["adapter"] != second["adapter"]

    def test_a_file_is_read_again_though_nothing_changed(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = fingerprint_of_model(base)
        monkeypatch.setattr(hashlib, "file_digest", None)
        assert fingerprint_of_model(base) == first

    @pytest.mark.parametrize("setting", ["rms_norm_eps", "rope_parameters", "dtype"])
    def test_a_setting_of_the_config_is_missed(self, base: Path, setting: str) -> None:
        first = fingerprint_of_model(base)
        _change_json(base / "config.json", **{setting: "another"})
        assert fingerprint_of_model(base) != first

    @pytest.mark.parametrize("setting", ["r", "lora_alpha", "target_modules", "use_rslora"])
    def test_a_setting_of_the_adapter_is_missed(self, adapter: Path, setting: str) -> None:
        first = fingerprint_of_model(adapter)
        _change_json(adapter / "adapter_config.json", **{setting: ["another"]})
        assert fingerprint_of_model(adapter) != first

    def test_what_decides_nothing_makes_a_cache_stale(self, base: Path, adapter: Path) -> None:
        first = fingerprint_of_model(base, adapter)
        for folder in (base, adapter):
            (folder / "README.md").write_text("words")
            (folder / "optimizer.pt").write_bytes(b"state")
            (folder / "training_args.bin").write_bytes(b"arguments")
        _change_json(base / "config.json", transformers_version="9.0", use_cache=False)
        modules = json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
        _change_json(
            adapter / "adapter_config.json",
            peft_version="9.0",
            inference_mode=False,
            base_model_name_or_path="moved",
            target_modules=modules[::-1],
        )
        assert fingerprint_of_model(base, adapter) == first

    def test_an_adapter_alone_has_no_base(self, base: Path, adapter: Path) -> None:
        assert fingerprint_of_model(adapter) == fingerprint_of_model(base, adapter)

    def test_code_and_indices_of_a_model_are_missed(self, base: Path) -> None:
        seen = {fingerprint_of_model(base)["base"]}
        for name in ("modeling_own.py", "model.safetensors.index.json", "model-2.safetensors"):
            (base / name).write_text("{}")
            seen.add(fingerprint_of_model(base)["base"])
        assert len(seen) == 4

    def test_weights_that_are_not_loaded_count(self, base: Path) -> None:
        first = fingerprint_of_model(base)
        (base / "pytorch_model.bin").write_bytes(b"the same, as a pickle")
        assert fingerprint_of_model(base) == first
        (base / "model.safetensors").unlink()
        assert fingerprint_of_model(base) != first

    @pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
    def test_a_folder_without_model_has_a_fingerprint(self, base: Path, missing: str) -> None:
        (base / missing).unlink()
        with pytest.raises(ConfigurationError, match="holds no model"):
            fingerprint_of_model(base)

    @pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
    def test_a_folder_without_adapter_has_a_fingerprint(self, base: Path, adapter: Path, missing: str) -> None:
        (adapter / missing).unlink()
        with pytest.raises(ConfigurationError, match="holds no adapter"):
            fingerprint_of_model(base, adapter)

    def test_a_broken_config_is_a_traceback(self, base: Path) -> None:
        (base / "config.json").write_text("{")
        with pytest.raises(ConfigurationError, match="no JSON"):
            fingerprint_of_model(base)

    def test_an_adapter_that_names_no_base_is_taken_for_one(self, adapter: Path) -> None:
        _change_json(adapter / "adapter_config.json", base_model_name_or_path=None)
        with pytest.raises(ConfigurationError, match="does not name its base"):
            fingerprint_of_model(adapter)


class TestHub:
    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        for name, file in (("base", "config.json"), ("task", "adapter_config.json")):
            folder = tmp_path / "hub" / f"models--org--{name}"
            (folder / "refs").mkdir(parents=True)
            (folder / "refs" / "main").write_text(COMMIT)
            (folder / "snapshots" / COMMIT).mkdir(parents=True)
            content = {"peft_type": "LORA", "base_model_name_or_path": "org/base"} if name == "task" else {}
            (folder / "snapshots" / COMMIT / file).write_text(json.dumps(content))

    def test_an_id_is_taken_without_its_commit(self) -> None:
        expected = {"base": f"hub:org/base@{COMMIT}", "adapter": f"hub:org/task@{COMMIT}"}
        assert fingerprint_of_model("org/base") == {"base": expected["base"], "adapter": "none"}
        assert fingerprint_of_model("org/base", "org/task") == expected
        assert fingerprint_of_model("org/task") == expected

    def test_a_commit_is_looked_up_or_lost(self) -> None:
        commit = COMMIT[::-1]
        assert fingerprint_of_model("org/base", "org/task", revision=commit)["base"] == f"hub:org/base@{commit}"

    @pytest.mark.parametrize(("name", "revision"), [("org/other", None), ("org/base", "v2"), ("a/b/c", None)])
    def test_a_name_that_nobody_knows_has_a_fingerprint(self, name: str, revision: str | None) -> None:
        with pytest.raises(ConfigurationError, match="is no folder here") as caught:
            fingerprint_of_model(name, revision=revision)
        assert revision is None or "'v2'" in str(caught.value)


class TestLoadedModels:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"use_dora": True},
            {"modules_to_save": ["norm"]},
            {"trainable_token_indices": [1, 2]},
            {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
        ],
    )
    def test_an_adapter_makes_another_base(self, options: dict[str, Any]) -> None:
        plain = fingerprint_of_model(tiny_llama(1, tiny_tokenizer(), layers=1))
        adapted = tiny_adapter(tiny_llama(1, tiny_tokenizer(), layers=1), 2, **options)
        first = fingerprint_of_model(adapted)
        assert first["base"] == plain["base"]
        assert plain["adapter"] == "none"
        assert fingerprint_of_model(adapted) == first
        for name, weight in adapted.named_parameters():
            if weight.requires_grad:
                before = weight.detach().clone()
                weight.data += 1
                changed = fingerprint_of_model(adapted)
                assert changed["base"] == first["base"], name
                assert changed["adapter"] != first["adapter"], name
                weight.data.copy_(before)

    def test_a_weight_a_type_or_a_buffer_is_missed(self) -> None:
        model = tiny_llama(1, tiny_tokenizer(), layers=1)
        model.register_buffer("scale", torch.ones(()))
        seen = [fingerprint_of_model(model)["base"]]
        model.scale += 1
        seen.append(fingerprint_of_model(model)["base"])
        model.model.layers[0].mlp.up_proj.weight.data[3, 4] += 1e-3
        seen.append(fingerprint_of_model(model)["base"])
        model.config.rms_norm_eps = 1e-3
        seen.append(fingerprint_of_model(model)["base"])
        seen.append(fingerprint_of_model(model.bfloat16())["base"])
        assert len(set(seen)) == len(seen)

    def test_what_a_trainer_sets_makes_a_cache_stale(self) -> None:
        model = tiny_llama(1, tiny_tokenizer(), layers=1)
        first = fingerprint_of_model(model)
        model.config.use_cache = False
        model.config.pad_token_id = 2
        model.name_or_path = "elsewhere"
        assert fingerprint_of_model(model.train()) == first

    def test_the_name_that_an_adapter_was_loaded_under_counts(self) -> None:
        found = []
        for name in ("default", "task"):
            torch.manual_seed(0)
            config = LoraConfig(target_modules=["q_proj"], r=2)
            model = PeftModel(tiny_llama(1, tiny_tokenizer(), layers=1), config, adapter_name=name)
            found.append(fingerprint_of_model(model))
        assert found[0] == found[1]

    def test_a_model_as_a_path_and_as_an_object_are_taken_for_compared(self, base: Path, adapter: Path) -> None:
        model = tiny_llama(1, tiny_tokenizer(), layers=1)
        assert fingerprint_of_model(model)["base"] != fingerprint_of_model(base)["base"]
        mixed = fingerprint_of_model(model, adapter)
        assert mixed["base"].startswith("loaded:")
        assert mixed["adapter"] == fingerprint_of_model(base, adapter)["adapter"]

    @pytest.mark.slow
    def test_the_order_of_a_set_counts_in_another_process(self) -> None:
        """Sets of strings have another order wherever PYTHONHASHSEED differs."""
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); from tiny_models import *;"
            "from muscle_hf.models.fingerprints import fingerprint_of_model;"
            "print(hash('a'), fingerprint_of_model(tiny_adapter(tiny_llama(1, tiny_tokenizer(), layers=1), 2)))"
        )
        command = [sys.executable, "-W", "ignore", "-c", code, str(Path(__file__).parents[1])]
        seed, _, found = fresh.run(command, warm=True, check=True).stdout.partition(" ")
        assert int(seed) != hash("a"), "sets have the same order there"
        assert found == str(fingerprint_of_model(tiny_adapter(tiny_llama(1, tiny_tokenizer(), layers=1), 2))) + "\n"

    def test_weights_that_are_not_in_memory_are_hashed_as_nothing(self) -> None:
        with torch.device("meta"):
            model = tiny_llama(1, tiny_tokenizer(), layers=1)
        with pytest.raises(ConfigurationError, match="not in memory"):
            fingerprint_of_model(model)

    def test_two_adapters_or_one_on_another_are_taken(self, adapter: Path) -> None:
        model = tiny_adapter(tiny_llama(1, tiny_tokenizer(), layers=1), 2)
        with pytest.raises(ConfigurationError, match="on top"):
            fingerprint_of_model(model, adapter)
        model.add_adapter("second", LoraConfig(target_modules=["q_proj"]))
        with pytest.raises(ConfigurationError, match="second"):
            fingerprint_of_model(model)


class TestTokenizers:
    def test_a_changed_tokenizer_is_missed(self) -> None:
        tokenizers = [
            tiny_tokenizer(),
            tiny_tokenizer(["other texts give other merges"]),
            tiny_tokenizer(add_beginning=True),
            tiny_tokenizer(chat_template=CHAT_TEMPLATE),
        ]
        tokenizers.append(tiny_tokenizer())
        tokenizers[-1].eos_token = "<s>"  # noqa: S105 - no password
        assert len({fingerprint_of_tokenizer(one) for one in tokenizers}) == len(tokenizers)

    def test_using_or_saving_a_tokenizer_makes_a_cache_stale(self, tmp_path: Path) -> None:
        tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
        first = fingerprint_of_tokenizer(tokenizer)
        tokenizer(["a", "a b"], padding=True, truncation=True, max_length=2)
        tokenizer.pad_token = "</s>"  # noqa: S105 - no password
        assert fingerprint_of_tokenizer(tokenizer) == first
        tokenizer.save_pretrained(tmp_path)
        assert fingerprint_of_tokenizer(type(tokenizer).from_pretrained(tmp_path)) == first

    def test_a_tokenizer_in_python_has_no_fingerprint(self) -> None:
        class Slow:
            chat_template = None
            special_tokens_map = {"eos_token": "</s>"}  # noqa: RUF012 - never changed

            def __init__(self, vocabulary: dict[str, int]) -> None:
                self.get_vocab = lambda: vocabulary

        one, same, other = (fingerprint_of_tokenizer(Slow(v)) for v in ({"a": 0}, {"a": 0}, {"a": 1}))  # type: ignore[arg-type]
        assert one == same != other


class TestRows:
    ROWS = {"input_ids": [[1, 2, 3], [4], [5, 6]], "labels": [[-100, 2, 3], [4], [-100, 6]]}  # noqa: RUF012

    def test_a_changed_row_is_missed(self) -> None:
        seen = [fingerprint_of_rows(Dataset.from_dict(self.ROWS))]
        for column, rows in (
            ("input_ids", [[1, 2, 9], [4], [5, 6]]),
            ("labels", [[-100, -100, 3], [4], [-100, 6]]),
            ("input_ids", [[1, 2, 3, 4], [], [5, 6]]),  # the same tokens, parted elsewhere
        ):
            seen.append(fingerprint_of_rows(Dataset.from_dict(self.ROWS | {column: rows})))
        dataset = Dataset.from_dict(self.ROWS)
        seen += [fingerprint_of_rows(dataset.select(order)) for order in ([1, 0, 2], [0, 1], [0, 1, 2, 2], [])]
        assert len(set(seen)) == len(seen)

    def test_how_rows_are_stored_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        dataset = Dataset.from_dict(self.ROWS)
        first = fingerprint_of_rows(dataset)
        small = Features({name: List(Value("int32")) for name in self.ROWS})
        large = Features({name: LargeList(Value("int16")) for name in self.ROWS})
        dataset.save_to_disk(tmp_path)
        chunks = pa.concat_tables(
            [pa.table({name: rows[a:b] for name, rows in self.ROWS.items()}) for a, b in ((0, 1), (1, 3))]
        )
        others = [
            dataset.cast(small),
            dataset.cast(large),
            Dataset.load_from_disk(str(tmp_path)),
            Dataset(chunks),
            dataset.add_column("text", ["a", "b", "c"]),
            dataset.select([2, 0, 1]).select([1, 2, 0]),
            dataset.with_format("torch"),
        ]
        monkeypatch.setattr(muscle_hf.models.fingerprints, "_ROWS_AT_ONCE", 2)
        assert [fingerprint_of_rows(one) for one in others] == [first] * len(others)

    def test_rows_without_labels_are_not_those_with_a_label_everywhere(self) -> None:
        alone = Dataset.from_dict({"input_ids": self.ROWS["input_ids"]})
        both = Dataset.from_dict({"input_ids": self.ROWS["input_ids"], "labels": self.ROWS["input_ids"]})
        assert fingerprint_of_rows(alone) == fingerprint_of_rows(both)

    def test_what_has_no_rows_to_hash_has_a_fingerprint(self) -> None:
        with pytest.raises(InputError, match="stream"):
            fingerprint_of_rows(IterableDataset.from_generator(lambda: iter([self.ROWS])))
        with pytest.raises(InputError, match="encode it first"):
            fingerprint_of_rows(Dataset.from_dict({"text": ["a"]}))
        for rows in ([[1], None], [[1, None], [2]]):
            with pytest.raises(InputError, match="without a value"):
                fingerprint_of_rows(Dataset.from_dict({"input_ids": rows}))

    @pytest.mark.slow
    def test_a_hundred_thousand_rows_take_longer_than_a_few_seconds(self) -> None:
        values = pa.array(np.arange(20_000_000, dtype=np.int32) % 30_000)
        rows = pa.ListArray.from_arrays(pa.array(np.arange(0, 20_000_001, 200, dtype=np.int32)), values)
        dataset = Dataset(pa.table({"input_ids": rows, "labels": rows}))
        start = time.process_time()
        fingerprint_of_rows(dataset)
        assert time.process_time() - start < 5
