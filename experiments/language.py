"""Run the experiment on the language model: is it what the model knows that helps, or its architecture and tokens?

    python experiments/language.py --data data/scientific --out runs/experiments

Beside the language model stands one of the same configuration and tokenizer whose weights are drawn at random and never trained, each with
everything fused and with nothing fused; and fewer layers of the model itself. Id-based recommenders that read texts read them through the
same model. What is trained is kept and an interrupted experiment goes on. Writes `results/language.json` and prints the table as Markdown.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

import torch
from experiment_runs import command_line, write_results
from run import Experiment, choose_arms, refuse_to_lose, run, table, with_seeds
from transformers import AutoConfig, AutoModel

from laserrec import LaserConfig
from laserrec.llm.gguf import resolve_llm
from laserrec.system.cache import build_once

QUESTION = "Does it matter what the frozen language model knows, and how much of it there is?"
# One epoch, as in ablations.toml.
SETTINGS = ("stage1.epochs=1", "stage2.epochs=0")
ALONE = "score.fuse_collaborative=false"
LAYERS = (6, 12, 18, 24)


def main() -> None:
    """Run what the command line names."""
    chosen = choose_arms(command_line(__doc__))
    out = chosen.out / "language"
    asked = with_seeds(experiment(out, chosen.assignments), chosen.seeds)
    refuse_to_lose(chosen.results / f"{asked.name}.json", asked, out, chosen.arms)
    found = run(asked, chosen.data, out, chosen.arms, chosen.assignments, chosen.jobs)
    for arm in found["arms"]:  # results are published: no path of this machine
        arm["changes"] = [change.replace(f"{out}{os.sep}", "") for change in arm["changes"]]
    write_results(chosen.results, found)
    sys.stdout.write(table(found))


def experiment(out: Path, further: list[str]) -> Experiment:
    """Return the experiment, the model of random weights having been made below `out`."""
    drawn = f"llm.model={random_model(LaserConfig().override(further).llm.model, out)}"
    arms = {
        "the language model": [],
        "random weights": [drawn],
        "the language model alone": [ALONE],
        "random weights alone": [drawn, ALONE],
    }
    return Experiment("language", QUESTION, [0], SETTINGS, arms | {f"{layers} layers": [f"llm.layers={layers}"] for layers in LAYERS})


def random_model(name: str, out: Path) -> Path:
    """Return the folder, below `out`, of a model of another one's configuration and tokenizer whose weights are drawn.

    As transformers draws them for that configuration; one that does not say how, such as the default model's, gets a deviation of .02.
    """
    source = resolve_llm(name)
    digest = hashlib.sha256((source / "config.json").read_bytes() + (source / "tokenizer.json").read_bytes()).hexdigest()
    folder = out / f"random-{digest[:12]}"
    with build_once(folder) as aside:
        if aside is not None:
            shutil.copytree(source, aside, ignore=shutil.ignore_patterns("*.safetensors*", "*.bin"), dirs_exist_ok=True)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                AutoModel.from_config(AutoConfig.from_pretrained(source)).to(torch.bfloat16).save_pretrained(aside)
    return folder


if __name__ == "__main__":
    main()
