"""Names, families, aliases, and what an unknown one gets."""

from __future__ import annotations

import pytest

from memberscope.attacks import registry
from memberscope.config.shared import NAMED_ONLY
from memberscope.errors import UserError

OWN_NAMES = {
    **dict.fromkeys(("lira_online", "lira_offline", "lira_proxy", "rmia_online", "rmia_offline", *NAMED_ONLY), "shadow"),
    "trajectory": "shadow",
    "salem_threshold": "population",
    "quantile": "population",
    "gradient_norm": "white_box",
}
SIX = ["threshold_loss", "threshold_entropy", "trained_lr", "trained_mlp", "trained_rf", "trained_knn"]


def _names(request: str | list[str]) -> list[str]:
    return [attack.name for attack in registry.resolve(request)]


def test_groups_and_aliases() -> None:
    assert _names("all") == [name for name in registry.names() if name not in NAMED_ONLY]
    assert set(SIX) <= set(registry.names())
    assert _names("tfp") == SIX
    assert _names("threshold") == SIX[:2]
    assert _names("lr, mlp,rf,knn") == SIX[2:]
    assert _names(["threshold-entropy", "threshold"]) == ["threshold_entropy", "threshold_loss"]
    assert [attack.family for attack in registry.resolve("metric")] == ["metric"] * 4
    assert registry.get("lr") is registry.get("trained_lr")


def test_variants_run_only_where_they_are_named() -> None:
    assert tuple(attack.name for attack in registry.ATTACKS if attack.named_only) == NAMED_ONLY
    assert not set(NAMED_ONLY) & {*_names("all"), *_names("shadow"), *_names("tfp")}
    assert _names("all,rmia_offline_gamma_1")[-1] == "rmia_offline_gamma_1"
    assert _names("rmia_offline_gamma_1,shadow")[:2] == ["rmia_offline_gamma_1", "shadow_shokri"]
    with pytest.raises(
        UserError, match=r"'lira_offline_twosided'; nearest: lira_offline_two_sided, .* or any of .*rmia_online_gamma_1"
    ):
        registry.resolve("lira_offline_twosided")


def test_names_are_unique_and_open_with_their_family_or_are_the_fields_own() -> None:
    assert len(set(registry.names())) == len(registry.ATTACKS)
    own = {name for name, family in OWN_NAMES.items() if registry.get(name).family == family}
    assert own == set(OWN_NAMES)
    for attack in registry.ATTACKS:
        assert attack.name.startswith(attack.family + "_") or attack.name in own


def test_families_stand_in_the_order_of_reports() -> None:
    order = ["threshold", "trained", "metric", "shadow", "population", "label_only", "white_box", "trace"]
    assert list(registry.families()) == order
    assert [attack.family for attack in registry.ATTACKS] == sorted(
        (attack.family for attack in registry.ATTACKS), key=order.index
    )


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("trained_fr", "attacks: 'trained_fr'; nearest: trained_.*; allowed: all, tfp, threshold, trained, metric"),
        ("threshhold", "nearest: threshold"),
        ("lr,rff", "'rff'; nearest: rf"),
        ("", "attacks: none named; allowed: all"),
    ],
)
def test_an_unknown_name_gets_the_nearest(request_: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        registry.resolve(request_)
    assert "\n" not in str(caught.value)
