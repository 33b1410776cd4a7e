"""Decide whether the decoder of cached keys and values can run a language model, and say why not."""

from __future__ import annotations

from transformers import PreTrainedModel

ROTARY_TYPES = ("llama", "mistral", "qwen2", "qwen3")


FIXED_ANGLES = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary positions whose angles depend on a token's place alone; "dynamic" and "longrope" look at the longest sequence, too."""


def unsupported_reason(model: PreTrainedModel) -> str | None:
    """Return why a model cannot be run by `RotaryDecoder`, as the middle of a sentence; None when it can."""
    config = model.config
    if config.model_type not in ROTARY_TYPES:
        return f"needs a decoder with rotary positions ({', '.join(ROTARY_TYPES)}); received a {config.model_type!r} model."
    scaling = config.rope_parameters["rope_type"]
    if scaling not in FIXED_ANGLES:
        known = ", ".join(FIXED_ANGLES)
        return f"needs rotary positions that do not depend on a sequence's length ({known}); this model's are of type {scaling!r}."
    # Mistral windows all of its layers or none, and only its configuration says so.
    holders = [config] if config.model_type == "mistral" else [layer.self_attn for layer in model.layers]
    if any(getattr(holder, "sliding_window", None) for holder in holders):
        return "needs full attention; this model's is windowed."
    if config.hidden_act != "silu":
        return f"needs the activation silu; this model's is {config.hidden_act!r}."
    return None
