"""Tensors and modules: the frozen LLM, the text-once engine, the trained parts, the id-based recommenders."""
