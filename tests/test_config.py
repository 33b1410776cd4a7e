"""Settings: what is accepted, what is refused and how, and the paper's values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laserrec.baselines.bert4rec import BERT4REC
from laserrec.config import FitConfig, LaserConfig, MFormerConfig, PromptConfig, RuntimeConfig
from laserrec.errors import ConfigError


def write(folder: Path, text: str, name: str = "laser.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_paper_preset() -> None:
    """The figures of the paper: §3.1.1, §3.2, §3.3, §5 of its settings."""
    paper = LaserConfig.preset("paper")
    assert paper.prompt.order == "prefix_first"
    assert "into a single token" in paper.prompt.instruction
    assert paper.prompt.line == ">> {number}. {text}\n"
    assert (paper.virtual.prefix_length, paper.virtual.start, paper.virtual.read_out) == (32, "random", "suffix")
    assert (paper.mformer.source, paper.mformer.experts, paper.mformer.width, paper.mformer.heads, paper.mformer.blocks) == (
        "mformer",
        8,
        768,
        12,
        12,
    )
    assert paper.mformer.routing == "paper"
    assert paper.mformer.drop_state == 0
    assert (paper.score.temperature, paper.score.balance) == (0.05, 0.01)
    departures = ("learn_temperature", "standardise", "linear_read_out", "nearest", "lexical", "fuse_collaborative", "seen_penalty")
    assert not any(getattr(paper.score, name) for name in departures)
    collaborative = paper.collaborative
    assert (collaborative.model, collaborative.blocks, collaborative.heads, collaborative.width) == ("bert4rec", 2, 2, 64)
    assert paper.fit_collaborative == BERT4REC.settings(LaserConfig())[1]
    for stage, epochs in ((paper.stage1, 15), (paper.stage2, 5)):
        assert (stage.epochs, stage.batch_size, stage.learning_rate) == (epochs, 4, 1e-4)
        # Adam is AdamW without decay; every epoch runs, and the best is kept.
        assert (stage.weight_decay, stage.warmup_steps, stage.patience) == (0, 0, epochs)


def test_default_preset_is_the_defaults() -> None:
    assert LaserConfig.preset("default") == LaserConfig()
    with pytest.raises(ConfigError, match="'fast'; allowed are 'default' and 'paper'"):
        LaserConfig.preset("fast")  # type: ignore[arg-type]


def test_toml_lies_over_the_preset_it_names(tmp_path: Path) -> None:
    path = write(tmp_path, 'preset = "paper"\nseed = 3\n[stage1]\nepochs = 2\n[prompt]\nattributes = ["brand"]\n')
    loaded = LaserConfig.load(path)
    assert (loaded.seed, loaded.stage1.epochs, loaded.stage1.batch_size) == (3, 2, 4)
    assert loaded.prompt.attributes == ("brand",)
    assert loaded.mformer == LaserConfig.preset("paper").mformer


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_json_round_trip(tmp_path: Path, preset: Any) -> None:  # noqa: ANN401 - a preset's name
    settings = LaserConfig.preset(preset).override(
        ["seed=9", 'prompt.attributes=["a", "b"]', "runtime.laser_micro_batch=3", "llm.layers=4"]
    )
    settings.save(tmp_path / "config.json")
    assert LaserConfig.load(tmp_path / "config.json") == settings
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 9


@given(seed=st.integers(0, 2**63), rate=st.floats(1e-12, 1e12), line=st.text(max_size=20), bonus=st.floats(-1000, 1000))
def test_any_settings_survive_json(tmp_path_factory: pytest.TempPathFactory, seed: int, rate: float, line: str, bonus: float) -> None:
    values = {
        "seed": seed,
        "stage1": {"learning_rate": rate},
        "score": {"cold_start_bonus": bonus},
        "prompt": {"order": "prefix_first", "line": line + "{text}"},
    }
    settings = LaserConfig.build("default", values, "test")
    path = tmp_path_factory.mktemp("settings") / "config.json"
    settings.save(path)
    assert LaserConfig.load(path) == settings


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("llm.cache_memory=2", "'llm.cache_memory' is now runtime.text_memory;"),
        ("llm.compiled=true", "'llm.compiled' is now runtime.compiled;"),
        ("stage2.micro_batch_size=8", "'stage2.micro_batch_size' is now runtime.laser_micro_batch;"),
        ("fit_collaborative.checkpoint_seconds=1", "is now runtime.checkpoint_seconds;"),
        ("score.trust=2", "'score.trust' is now a constant"),
    ],
)
def test_a_setting_of_earlier_versions_says_what_became_of_it(old: str, new: str) -> None:
    with pytest.raises(ConfigError, match=new):
        LaserConfig().override([old])


def test_a_setting_under_its_earlier_name_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"score": {"new_items": 0.5}}')
    assert LaserConfig.load(tmp_path / "config.json").score.cold_start_bonus == 0.5
    assert LaserConfig().override(["score.new_items=0.5"]).identity == LaserConfig().override(["score.cold_start_bonus=0.5"]).identity


def test_what_this_machine_does_is_no_part_of_a_runs_identity() -> None:
    other = LaserConfig().override(["runtime.text_memory=1", "runtime.laser_micro_batch=4", "runtime.compiled=true"])
    assert other.identity == LaserConfig().identity
    assert LaserConfig().override(["llm.cache=int8"]).identity != LaserConfig().identity


def test_runtime_settings_that_are_not_given_are_those_that_a_run_was_begun_with() -> None:
    begun, given = RuntimeConfig(laser_micro_batch=4, compiled=True, text_memory=2.0), RuntimeConfig(text_memory=1.0, checkpoint_seconds=5)
    assert given.over(begun) == RuntimeConfig(laser_micro_batch=4, compiled=True, text_memory=1.0, checkpoint_seconds=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 3", r"unknown setting 'sed'; allowed here are .*seed"),
        ("[stage1]\nepoch = 3", r"unknown setting 'stage1\.epoch'; allowed here are .*epochs"),
        ("stage1 = 3", "'stage1' is a section; received 3, set one of .*epochs"),
        ("[stage1]\nepochs = -1", r"stage1\.epochs: .*greater than or equal to 0 \(received -1\)"),
        ("[seed]\nx = 1", r"seed: .*integer"),
        ('[mformer]\nrouting = "soft"', r"mformer\.routing: .*'gated' or 'paper'"),
        ("[mformer]\nwidth = 10", "multiple of mformer.heads; received 10 and 4"),
        ("[collaborative]\nheads = 3", "multiple of collaborative.heads; received 64 and 3"),
        ('[prompt]\nline = "{title}"', r"must hold \{text\}; received '\{title\}'"),
        ('[prompt]\nline = "{number} {text}"', r"\{number\} only with prompt.order = 'prefix_first'"),
        ("[stage1]\nlearning_rate = inf", r"stage1\.learning_rate"),
        ('[collaborative]\nrefits = "id"', r"collaborative\.refits: .*list in brackets \(received 'id'\)"),
        ("[score]\ntrust = nan", r"score\.trust"),
        ('preset = "big"', "'big'; allowed are 'default' and 'paper'"),
        ("preset = [1]", r"\[1\]; allowed are 'default' and 'paper'"),
        ("seed = = 3", "Cannot read the settings in .*laser.toml"),
    ],
)
def test_what_is_refused_and_how(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LaserConfig.load(write(tmp_path, text))


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "3", "null"])
def test_json_that_holds_no_settings(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        LaserConfig.load(write(tmp_path, text, "config.json"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Cannot read the settings in .*absent"):
        LaserConfig.load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="Cannot read"):
        LaserConfig.load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'[llm]\nmodel = "\xe9"')
    with pytest.raises(ConfigError, match="Cannot read"):
        LaserConfig.load(tmp_path / "latin.toml")


def test_assignments() -> None:
    settings = LaserConfig().override(
        ["seed=4", "stage1.epochs = 2", "stage1.learning_rate=1e-5", "llm.model=gpt2", "score.standardise=false", "stage1.clip_norm=none",
         'virtual.words="a = b"', 'prompt.attributes=["brand", "shown=category"]', "prompt.instruction=x=y"]
    )  # fmt: skip
    assert settings.seed == 4
    assert (settings.stage1.epochs, settings.stage1.learning_rate, settings.stage1.clip_norm) == (2, 1e-5, None)
    assert settings.stage1.batch_size == LaserConfig().stage1.batch_size
    assert settings.llm.model == "gpt2"
    assert settings.score.standardise is False
    assert settings.virtual.words == "a = b"
    assert settings.prompt.attributes == ("brand", "shown=category")
    assert settings.prompt.instruction == "x=y"
    assert LaserConfig().override([]) == LaserConfig()


def test_later_assignments_win_and_are_checked_together() -> None:
    assert LaserConfig().override(["seed=1", "seed=2"]).seed == 2
    both = LaserConfig().override(["prompt.line=>> {number}. {text}", "prompt.order=prefix_first"])
    assert both.prompt.order == "prefix_first"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed", r"'seed': expected section\.key=value, for example"),
        ("sed=1", "sed=1: unknown setting 'sed'"),
        ("stage1.epoch=1", "unknown setting 'stage1.epoch'"),
        ("stage1=1", "'stage1' is a section"),
        ("=1", "unknown setting ''"),
        ("seed.x=1", "seed: .*integer"),
        ("seed=many", "seed: .*integer.*'many'"),
        ("stage1.epochs=1.5", r"stage1\.epochs: .*integer"),
        ("score.standardise=maybe", r"score\.standardise: .*boolean"),
        ("llm.dtype=float16", r"llm\.dtype: .*'bfloat16' or 'float32'.*'float16'"),
    ],
)
def test_assignments_that_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LaserConfig().override([assignment])


@given(st.text(max_size=30))
def test_no_assignment_raises_anything_else(text: str) -> None:
    for assignment in (text, f"seed={text}", f"llm.model={text}", f"prompt.attributes={text}"):
        try:
            LaserConfig().override([assignment])
        except ConfigError:
            continue


def test_settings_do_not_change() -> None:
    settings = LaserConfig()
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        settings.stage1.epochs = 3  # type: ignore[misc]
    settings.override(["stage1.epochs=99"])
    assert settings == LaserConfig()


def test_every_setting_says_what_it_is() -> None:
    for section in LaserConfig.model_fields.values():
        fields = getattr(section.annotation, "model_fields", {})
        assert all(field.description for field in fields.values()), section.annotation
    assert FitConfig.model_fields["epochs"].description
    assert MFormerConfig(experts=1).experts == 1
    assert PromptConfig(order="prefix_first", line="{number}{text}").line == "{number}{text}"


@pytest.mark.parametrize("assignment", ["seed=" + "9" * 5000, "seed=" + "[" * 100_000, "llm.layers=" + "{a=" * 50_000, "x" * 10**6 + "=1"])
def test_endless_settings_are_refused_in_a_few_words(assignment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LaserConfig().override([assignment])
    assert len(str(caught.value)) < 1000
