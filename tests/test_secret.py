"""The secret: what it hides, who may read it, and what a bad one gets."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import numpy as np
import pytest

from memberscope import secret
from memberscope.errors import UserError

ONE, OTHER = secret.Key(value=bytes(32)), secret.Key(value=bytes(31) + b"\1")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(secret.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "memberscope" / "key"


def test_identities_need_the_key_and_the_source() -> None:
    ids = np.arange(1000)
    found = ONE.identities(ids, source="content")
    assert len(set(found.tolist())) == 1000
    assert found.min() >= 0
    np.testing.assert_array_equal(found, ONE.identities(ids, source="content"))
    np.testing.assert_array_equal(found[[7, 7]], ONE.identities(np.array([7, 7]), source="content"))
    assert not set(found.tolist()) & set(OTHER.identities(ids, source="content").tolist())
    assert not set(found.tolist()) & set(ONE.identities(ids, source="given").tolist())
    assert len(ONE.identities(np.array(["a", "b", "é\udce9"]), source="given")) == 3


def test_masks_look_random_and_repeat() -> None:
    n = 20_000
    for key, salt in ((ONE, b"a"), (ONE, b"b"), (OTHER, b"a")):
        mask = key.mask(salt, n)
        assert abs(mask.mean() - 0.5) < 0.015  # four standard errors
        np.testing.assert_array_equal(mask, key.mask(salt, n))
    assert abs((ONE.mask(b"a", n) ^ ONE.mask(b"b", n)).mean() - 0.5) < 0.015
    assert abs((ONE.mask(b"a", n) ^ OTHER.mask(b"a", n)).mean() - 0.5) < 0.015


def test_a_key_never_shows_its_secret() -> None:
    key = secret.Key(value=b"0123456789abcdef0123456789abcdef")
    assert "0123" not in f"{key} {key!r} {key.check}"
    assert key.value.hex() not in f"{key!r}"


def test_the_users_own_is_made_once_for_this_user_alone(home: Path) -> None:
    first = secret.key()
    assert stat.S_IMODE(home.stat().st_mode) == 0o600
    assert secret.key() == first
    assert [path.name for path in home.parent.iterdir()] == ["key"]
    home.unlink()
    assert secret.key() != first


def _make(_: int) -> str:
    return secret.key().check


def test_first_uses_at_once_agree(home: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        assert len(set(pool.map(_make, range(32), chunksize=1))) == 1


def test_the_variable_shares_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(secret.VARIABLE, "sixteen letters!")
    assert secret.key() == secret.key()
    assert not home.exists()
    monkeypatch.setenv(secret.VARIABLE, "sixteen letters?")
    other = secret.key()
    monkeypatch.setenv(secret.VARIABLE, " sixteen letters?\n")
    assert secret.key() == other


def test_a_bad_secret_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(secret.VARIABLE, "short")
    with pytest.raises(UserError, match="MEMBERSCOPE_KEY: 5 characters; allowed: at least 16") as caught:
        secret.key()
    assert "short" not in str(caught.value)
    monkeypatch.delenv(secret.VARIABLE)
    home.parent.mkdir(parents=True)
    home.write_text("")
    with pytest.raises(UserError, match="holds 0 bytes, which is not a valid secret"):
        secret.key()
    home.unlink()
    home.mkdir()
    with pytest.raises(UserError, match="neither read nor written"):
        secret.key()
