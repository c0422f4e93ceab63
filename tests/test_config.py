from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import pytest

from memberscope import cli
from memberscope.config import AuditModelConfig, Config, DataConfig, Integer, TrainConfig, groups, option
from memberscope.config.mitigation import MitigateConfig
from memberscope.config.training import CaseStudyConfig, TrainStudyConfig
from memberscope.errors import UserError


def test_json_round_trip() -> None:
    config = CaseStudyConfig(dataset="cifar10", members=500, label_noise=0.1, seeds=3)
    assert CaseStudyConfig.from_json(config.to_json()) == config


def test_text_becomes_numbers() -> None:
    config = TrainStudyConfig.from_mapping(
        {"epochs": "7", "learning_rate": "1e-2", "members": "auto", "validation": "nonmembers"}
    )
    assert (config.epochs, config.learning_rate, config.members, config.validation) == (7, 0.01, "auto", "nonmembers")


def test_groups_are_dotted() -> None:
    assert groups(TrainConfig(epochs=3)) == {"train.epochs": 3, "train.batch_size": 50, "train.learning_rate": 0.001}


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"epochs": "0"}, ["epochs=0", "1 to"]),
        ({"epochs": "ten"}, ["epochs=ten", "not a whole number"]),
        ({"epochs": "2.5"}, ["epochs=2.5", "not a whole number"]),
        ({"batch_size": "-1"}, ["batch_size=-1", "1 to"]),
        ({"learning_rate": "nan"}, ["learning_rate=nan", "above 0"]),
        ({"learning_rate": "0"}, ["learning_rate=0", "above 0"]),
        ({"learning_rate": "fast"}, ["learning_rate=fast", "not a number"]),
        ({"label_noise": "1.5"}, ["label_noise=1.5", "at least 0, at most 1", "auto"]),
        ({"members": "3"}, ["members=3", "20 or more", "auto"]),
        ({"depth": "0"}, ["depth=0", "1 to"]),
        ({"model": "cnn"}, ["model=cnn", "conv, dense"]),
        ({"class_choice": "frist"}, ["class_choice=frist", "nearest: first"]),
        ({"epoch": "4"}, ["epoch: unknown", "nearest: epochs"]),
    ],
)
def test_bad_values_are_named_with_what_is_allowed(values: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        TrainStudyConfig.from_mapping(values)
    assert all(part in str(caught.value) for part in parts)
    assert "\n" not in str(caught.value)


def test_frozen() -> None:
    with pytest.raises(AttributeError):
        DataConfig().dataset = "other"  # type: ignore[misc]


def test_a_promise_without_coins_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(UserError) as refused:
        AuditModelConfig(promised_epsilon="4")
    assert str(refused.value) == (
        "promised_epsilon=4: coin_flips=no, and without coin flips epsilon is not bounded; allowed: none, or coin_flips=yes"
    )
    assert AuditModelConfig(promised_epsilon="4", coin_flips="yes", delta="0.001").promise == 4.0
    assert AuditModelConfig().promise is None
    for name, value in (("delta", "1"), ("promised_epsilon", "-1")):
        with pytest.raises(UserError, match=f"{name}={value}: out of range"):
            AuditModelConfig(coin_flips="yes", **{name: value})


@dataclass(frozen=True, kw_only=True)
class Renamed(Config):
    depth: int = option(2, check=Integer(low=1), group="g", help="", formerly=("layers", "levels"))
    seed: int = option(0, check=Integer(low=0), group="g", help="")


def test_a_former_name_is_read_and_the_new_one_written() -> None:
    assert Renamed.from_mapping({"layers": "5"}) == Renamed(depth=5)
    assert Renamed.from_json('{"levels": 7, "seed": 3}') == Renamed(depth=7, seed=3)
    assert Renamed(depth=5).to_dict() == {"depth": 5, "seed": 0}
    assert Renamed.former_names() == {"layers": "depth", "levels": "depth"}
    assert Renamed.from_mapping({"layers": 5, "depth": "5"}).depth == 5, "the same value twice is no contradiction"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"layers": 5, "depth": 6}, "layers=5: given together with depth, its current name; allowed: only depth"),
        ({"depth": 6, "layers": 5}, "layers=5: given together with depth, its current name; allowed: only depth"),
        ({"layers": 0}, "depth=0: out of range; allowed: a whole number, 1 or more"),
        ({"layer": 5}, "layer: unknown parameter; allowed: depth, seed"),
    ],
)
def test_a_former_name_is_held_to_the_same_rules(values: dict[str, object], line: str) -> None:
    with pytest.raises(UserError) as refused:
        Renamed.from_mapping(values)
    assert str(refused.value) == line


def test_what_an_earlier_version_kept_is_read() -> None:
    kept = json.loads(MitigateConfig(mitigations="l2").to_json())
    kept["ladder"] = kept.pop("mitigations")
    assert MitigateConfig.from_json(json.dumps(kept)) == MitigateConfig(mitigations="l2")


def test_a_former_name_is_nobody_elses() -> None:
    for study in cli.STUDIES.values():
        config = study.configuration()
        former = [name for item in dataclasses.fields(config) for name in item.metadata["formerly"]]
        assert len(set(former)) == len(former)
        assert not set(former) & {item.name for item in dataclasses.fields(config)}


def test_a_switch_is_a_bool_inside_and_a_word_outside() -> None:
    config = AuditModelConfig.from_mapping({"coin_flips": "yes", "refit": True, "allow_overlap": " no "})
    assert (config.coin_flips, config.refit, config.allow_overlap) == (True, True, False)
    assert {name: config.to_dict()[name] for name in ("coin_flips", "refit", "allow_overlap")} == {
        "coin_flips": "yes", "refit": "yes", "allow_overlap": "no",
    }  # fmt: skip
    assert AuditModelConfig.from_json(config.to_json()) == config
    assert groups(config)["attack.coin_flips"] == "yes"
    with pytest.raises(UserError, match="refit=ja: unknown; allowed: no, yes"):
        AuditModelConfig(refit="ja")
