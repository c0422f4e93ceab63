"""What is installed is what was resolved: every lock file has hashes, and the bill of materials names every distribution."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements", "requirements-core", "requirements-trainers", "requirements-supply")
TOOL = ROOT / ".venv-supply" / "bin" / "python"

pytestmark = pytest.mark.skipif(not (ROOT / "requirements.lock").exists(), reason="needs the checkout's lock files")


def _pins(name: str) -> dict[str, list[str]]:
    """The hashes of each `distribution==version` of a lock file, and nothing else that pip would read."""
    pins: dict[str, list[str]] = {}
    for line in (ROOT / f"{name}.lock").read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        words = line.split("#", 1)[0].split()
        if words:
            assert re.fullmatch(r"[a-z0-9-]+(\[[a-z,-]+\])?==[0-9][0-9a-z.+!]*", words[0]), line
            pins[words[0]] = words[1:]
    return pins


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_the_hashes_of_its_files_and_no_address(name: str) -> None:
    pins = _pins(name)
    assert len(pins) > 40
    for pin, hashes in pins.items():
        assert hashes, f"{pin} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), pin
    text = (ROOT / f"{name}.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|--index|--extra-index|--find-links|--trusted", text)


def test_conda_reads_the_same_versions() -> None:
    # pip takes no `-e .` beside hashes, and conda.yaml needs one
    assert _pins("requirements-unhashed") == {key: [] for key in _pins("requirements")}
    assert list(_pins("requirements-unhashed")) == list(_pins("requirements"))


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_asked_for_is_in_the_lock_file(name: str) -> None:
    asked = re.findall(r"^[a-z][\w-]*", (ROOT / f"{name}.in").read_text(encoding="utf-8"), flags=re.MULTILINE | re.IGNORECASE)
    locked = {re.split(r"[\[=]", pin)[0] for pin in _pins(name)}
    assert {word.lower().replace("_", "-") for word in asked} <= locked


def test_make_installs_by_hash() -> None:
    recipes = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    installs = [line for line in recipes if re.search(r"install\b.* -r ", line)]
    assert len(installs) == 4
    assert all("--require-hashes" in line for line in installs), installs


@pytest.mark.slow
def test_the_bill_of_materials_names_every_distribution(tmp_path: Path) -> None:
    if not TOOL.exists():
        pytest.skip("needs the environment of `make sbom`")
    done = subprocess.run(
        ["make", "--no-print-directory", "sbom", f"DIST={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    bill = json.loads(file.read_text(encoding="utf-8"))
    root = bill["metadata"]["component"]
    assert (bill["bomFormat"], root["name"], root["type"]) == ("CycloneDX", "memberscope", "library")
    assert file.name == f"memberscope-{root['version']}.cdx.json"
    named = {f"{one['name']}=={one['version']}": one["externalReferences"][0]["hashes"] for one in bill["components"]}
    pins = {re.sub(r"\[.*\]", "", pin): hashes for pin, hashes in _pins("requirements").items()}
    assert {pin: {one["content"] for one in hashes} for pin, hashes in named.items()} == {
        pin: {one.removeprefix("--hash=sha256:") for one in hashes} for pin, hashes in pins.items()
    }
    assert str(ROOT) not in file.read_text(encoding="utf-8")
