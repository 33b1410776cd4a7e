"""What a language model's folder may hold, checked before transformers reads it.

A folder that was downloaded is data from somebody else. Settings that name code, kernels or another model, and weights that are pickled,
missing or outside the folder, are refused with the reason. Other files beside the weights, such as the `pytorch_model.bin` that many
repositories have too, are never opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from laserrec.errors import AssetError

CONFIG, WEIGHTS, INDEX, ADAPTER = "config.json", "model.safetensors", "model.safetensors.index.json", "adapter_config.json"
JSON_BYTES = 64 * 2**20
"""The largest settings that are read; those of tokenizers come to some 20 MB."""
LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")
HEADS = re.compile(r"(?:^|\.)(?:lm_head|embed_out|score|classifier|v_head|cls)\.")
"""Names of tensors that may be left over: they turn states into words or classes, and only states are read here."""


def check_llm_folder(folder: Path) -> None:
    """Refuse a folder that is no language model in safetensors, or that reaches beyond itself.

    Args:
        folder: what transformers is about to read.

    Raises:
        AssetError: the message says which file is wrong, and why.
    """
    if (folder / ADAPTER).exists():
        raise AssetError(
            f"{folder} holds an adapter for another model ({ADAPTER}). Merge the two, save the result, and name its folder instead."
        )
    config = _read_object(folder / CONFIG)
    for path in (folder / CONFIG, *sorted(folder.glob("*tokenizer_config.json"))):
        for key, value in _settings(_read_object(path)):
            if key == "auto_map" and value:
                raise AssetError(f"{path} asks to run code of the model's own (auto_map), which is never done. Choose another model.")
            if key.endswith("attn_implementation") and isinstance(value, str) and "/" in value:
                raise AssetError(f"{path} asks to run a kernel from the hub ({key} = {value!r}), which is never done. Remove that line.")
    count = len(_tensor_names(folder))
    for key in LAYER_COUNTS:
        if isinstance(config.get(key), int) and config[key] > count:
            raise AssetError(f"{folder / CONFIG} promises {config[key]:,} layers; the weights hold only {count:,} tensors.")


def check_loaded(folder: Path, info: Mapping[str, Any]) -> None:
    """Refuse weights that do not fill a model, or hold more than it has.

    Args:
        folder: where they came from.
        info: what transformers noted: `missing_keys`, `unexpected_keys` and `mismatched_keys`.

    Raises:
        AssetError: the message names the first tensors.
    """
    missing = sorted(info.get("missing_keys", ()))
    if missing:
        raise AssetError(f"{folder} lacks weights that its {CONFIG} asks for: {_some(missing)}. Download or save it again.")
    wrong = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info.get("mismatched_keys", ()))
    if wrong:
        raise AssetError(f"{folder} holds weights of other shapes than its {CONFIG} asks for: {_some(wrong)}. Download or save it again.")
    extra = sorted(key for key in info.get("unexpected_keys", ()) if not HEADS.search(key))
    if extra:
        raise AssetError(
            f"{folder} holds tensors that its {CONFIG} does not have: {_some(extra)}. Download it again; llm.layers chooses fewer layers."
        )


def _tensor_names(folder: Path) -> set[str]:
    """Return the names of all tensors in the files that the folder's index, or its only file, names."""
    if not (folder / INDEX).exists():
        if not (folder / WEIGHTS).exists():
            raise AssetError(f"{folder} holds no weights in safetensors ({WEIGHTS}, or {INDEX}); pickled weights, *.bin, are never read.")
        return _names_in(folder / WEIGHTS)
    if (folder / WEIGHTS).exists():
        raise AssetError(f"{folder} holds both {WEIGHTS} and {INDEX}, so its weights are ambiguous. Remove the one that does not belong.")
    places = _read_object(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise AssetError(f"{folder / INDEX} names no files of weights.")
    found = set[str]()
    for name in sorted(set(places.values())):
        if Path(name).name != name or name.startswith("."):
            raise AssetError(f"{folder / INDEX} names the file {name[:100]!r}; allowed are files in the same folder.")
        if not name.endswith(".safetensors"):
            raise AssetError(f"{folder / INDEX} names the file {name[:100]!r}; only safetensors are read, pickled weights never.")
        own, promised = _names_in(folder / name), {tensor for tensor, place in places.items() if place == name}
        if own != promised:
            raise AssetError(f"{folder / name} does not hold the tensors that {INDEX} promises: {_some(sorted(own ^ promised))}.")
        found |= own
    return found


def _names_in(path: Path) -> set[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except (OSError, SafetensorError) as error:
        raise AssetError(f"{path} cannot be read as safetensors: {error}. Download it again.") from error


def _read_object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > JSON_BYTES:
            raise AssetError(f"{path} has {path.stat().st_size:,} bytes; settings of at most {JSON_BYTES:,} are read.")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AssetError(f"{path} cannot be read: {error}. A language model's folder needs it; download it again.") from error
    if not isinstance(value, dict):
        raise AssetError(f"{path} must hold a JSON object; it holds a {type(value).__name__}.")
    return value


def _settings(value: object) -> Iterator[tuple[str, object]]:
    """Yield every key of nested settings with its value."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield key, inner
        yield from _settings(inner)


def _some(names: list[str]) -> str:
    return ", ".join(name[:100] for name in names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
