"""Language models' folders that lack something, hold something foreign or reach beyond themselves are refused before they are read."""

from __future__ import annotations

import json
import os
import pickle
import random
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_shop
import torch
from safetensors.torch import load_file, save_file

from laserrec.errors import AssetError, LaserrecError
from laserrec.llm.backbone import Backbone
from laserrec.llm.folder import INDEX, WEIGHTS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model's folder, on a machine where every connection is a failure."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("something asked the network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return small_shop.write_llm(tmp_path)


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def shard(folder: Path) -> dict[str, str]:
    """Divide the weights into two files with an index; return where each tensor is."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    places = {name: f"model-0000{1 + place % 2}-of-00002.safetensors" for place, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == file}, folder / file, metadata={"format": "pt"})
    index(folder, places)
    return places


def index(folder: Path, places: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


class Armed:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def test_one_file_and_several_are_the_same_model(folder: Path) -> None:
    before = Backbone.load(folder, dtype="float32").fingerprint()
    shard(folder)
    assert Backbone.load(folder, dtype="float32").fingerprint() == before


def test_missing_tensors_are_never_drawn_at_random(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(AssetError, match=r"lacks weights that its config.json asks for: layers\.1\.mlp\.up_proj\.weight\."):
        Backbone.load(folder)


def test_layers_that_the_settings_leave_out(folder: Path) -> None:
    change(folder / "config.json", num_hidden_layers=1)
    with pytest.raises(AssetError, match=r"holds tensors that its config.json does not have: .*layers\.1\."):
        Backbone.load(folder)


def test_tensors_that_no_model_has(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file({**tensors, "lm_head.weight": torch.zeros(3, 3)}, folder / WEIGHTS, metadata={"format": "pt"})
    Backbone.load(folder, dtype="float32")
    save_file({**tensors, "model.extra.weight": torch.zeros(3)}, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(AssetError, match=r"holds tensors that its config.json does not have: .*extra\.weight\."):
        Backbone.load(folder)


OPENED: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and OPENED is not None:
        OPENED.append(str(arguments[0]))


def test_files_beside_the_weights_are_never_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = "import os\nos.mkdir('sprung')\n"
    for name in ("modeling_llama.py", "configuration_llama.py", "tokenization_llama.py", "__init__.py", "torch.py"):
        (folder / name).write_text(trap)
    for name in ("pytorch_model.bin", "model.bin", "training_args.bin", "optimizer.pt", "model.pth", "tokenizer.pkl", "model.ckpt"):
        (folder / name).write_bytes(pickle.dumps(Armed()))
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "pytorch_model.bin"}}))
    sys.addaudithook(_watch)  # stays, and notes nothing after this test
    monkeypatch.chdir(folder)
    monkeypatch.setattr(f"{__name__}.OPENED", [])
    Backbone.load(folder, dtype="float32")
    assert OPENED is not None
    opened = {Path(path).name for path in OPENED if Path(path).parent.resolve() == folder.resolve()}
    assert "config.json" in opened
    assert {name for name in opened if not name.endswith((".json", ".safetensors", ".jinja", ".model", ".txt"))} == set()
    assert not Path("sprung").exists()


def test_more_layers_than_the_weights_could_fill(folder: Path) -> None:
    change(folder / "config.json", num_hidden_layers=10**9)
    with pytest.raises(AssetError, match=r"promises 1,000,000,000 layers; the weights hold only \d\d tensors"):
        Backbone.load(folder)


def pickled(folder: Path) -> None:
    places = shard(folder)
    file = sorted(set(places.values()))[0]
    (folder / file).unlink()
    (folder / "model-1.bin").write_bytes(pickle.dumps(Armed()))
    index(folder, {name: place.replace(file, "model-1.bin") for name, place in places.items()})


def outside(folder: Path) -> None:
    places = shard(folder)
    file = sorted(set(places.values()))[0]
    (folder / file).rename(folder.parent / file)
    index(folder, {name: place.replace(file, f"../{file}") for name, place in places.items()})


def mixed(folder: Path) -> None:
    places = shard(folder)
    first, other = sorted(set(places.values()))
    index(folder, {name: other if place == first and "norm" in name else place for name, place in places.items()})


def renamed_to_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save({"a": Armed()}, folder / "pytorch_model.bin")


def both(folder: Path) -> None:
    weights = (folder / WEIGHTS).read_bytes()
    shard(folder)
    (folder / WEIGHTS).write_bytes(weights)


def a_file_less(folder: Path) -> None:
    (folder / sorted(set(shard(folder).values()))[0]).unlink()


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/name", "peft_type": "LORA"}))


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pickle in the index": (pickled, r"names the file 'model-1\.bin'; only safetensors are read"),
    "an index that points outside": (outside, r"names the file '\.\./model.*allowed are files in the same folder"),
    "tensors of another file": (mixed, r"does not hold the tensors that"),
    "only a pickle": (renamed_to_pickle, r"holds no weights in safetensors"),
    "one file and an index": (both, "holds both"),
    "a file less": (a_file_less, "cannot be read as safetensors"),
    "an empty index": (lambda folder: index(folder, {}) or (folder / WEIGHTS).unlink(), "names no files of weights"),
    "an index of numbers": (lambda folder: index(folder, {"a": 1}) or (folder / WEIGHTS).unlink(), "names no files of weights"),
    "a file cut short": (cut, "cannot be read as safetensors"),
    "an adapter": (adapter, "holds an adapter for another model"),
    "code": (lambda folder: change(folder / "config.json", auto_map={"AutoModel": "code.Model"}), "run code of the model's own"),
    "code in a part": (lambda folder: change(folder / "config.json", text={"auto_map": {"AutoModel": "x--code.Model"}}), "run code"),
    "a tokenizer's code": (
        lambda folder: change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.T", None]}),
        "tokenizer_config.json asks to run code",
    ),
    "a kernel": (lambda folder: change(folder / "config.json", attn_implementation="owner/kernel"), "run a kernel from the hub"),
    "a kernel inside": (lambda folder: change(folder / "config.json", _attn_implementation="owner/kernel@main:f"), "run a kernel"),
    "no settings": (lambda folder: (folder / "config.json").unlink(), "config.json cannot be read"),
    "deep settings": (lambda folder: (folder / "config.json").write_text("[" * 200_000), "config.json cannot be read"),
    "a list of settings": (lambda folder: (folder / "config.json").write_text("[]"), "must hold a JSON object"),
    "an unknown architecture": (lambda folder: change(folder / "config.json", model_type="nobody-knows"), "Cannot load"),
    "no tokenizer": (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "Cannot load"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_folders(folder: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    damage, reason = HOSTILE[case]
    damage(folder)
    monkeypatch.chdir(folder.parent)
    with pytest.raises(AssetError, match=reason) as caught:
        Backbone.load(folder)
    assert str(caught.value).startswith(f"Cannot load the language model '{folder}'")
    assert not Path("sprung").exists()


VALUES: tuple[object, ...] = (None, -1, 0, 3, 2**40, 1e300, "", "../x", "owner/name", [], {}, [1], {"a": 1}, True)


def test_settings_of_any_kind_and_value(folder: Path) -> None:
    """Seeded; the network is out of reach, and whatever is wrong is an error of ours."""
    chance, seconds = random.Random(7), float(os.environ.get("LASERREC_FUZZ_SECONDS", "0"))
    config = folder / "config.json"
    content = json.loads(config.read_text())
    keys = [
        *content,
        "quantization_config",
        "rope_scaling",
        "torch_dtype",
        "layer_types",
        "text_config",
        "_name_or_path",
        "base_model_tp_plan",
    ]
    end, tried = time.monotonic() + seconds, 0
    while tried < 40 or time.monotonic() < end:
        tried += 1
        config.write_text(json.dumps(content | {chance.choice(keys): chance.choice(VALUES) for _ in range(chance.randint(1, 2))}))
        try:
            Backbone.load(folder, dtype="float32")
        except LaserrecError:
            continue
