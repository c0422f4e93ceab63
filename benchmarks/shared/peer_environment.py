"""The environment of the peers that `benchmarks/peers.py` compares with, made when the first of them is needed."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

SACRO, ART = "sacroml", "adversarial-robustness-toolbox"
INSTALLED = {
    SACRO: ("sacroml==2.0.1",),
    ART: ("adversarial-robustness-toolbox==1.20.1", "packaging", "torch"),  # it declares neither
}
LIMIT = 1_800  # seconds after which an installation or a way is given up


def why(text: str) -> str:
    """The last line of what a program wrote, shortened."""
    return next((line.strip()[:200] for line in reversed(text.splitlines()) if line.strip()), "no output")


class Peers:
    """Installs peers into one environment, when each is first asked for."""

    def __init__(self, cache: Path) -> None:
        """Name the folder."""
        versions = {name: importlib.metadata.version(name) for name in ("numpy", "scikit-learn")}
        self.pins = [f"{name}=={version}" for name, version in versions.items()]
        self.folder = cache / f"python{sys.version_info[0]}.{sys.version_info[1]}-scikit-learn-{versions['scikit-learn']}"
        self.uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
        self.missing: dict[str, str] = {}

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def _run(self, *words: object) -> None:
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=LIMIT, check=False)
        if done.returncode:
            raise OSError(why(done.stderr or done.stdout))

    def why_not(self, name: str) -> str:
        """Install a peer unless it is there; returns why it cannot be, or nothing."""
        mark = self.folder / f"{name}.installed"
        if mark.exists() or name in self.missing:
            return self.missing.get(name, "")
        print(f"installing {name} into {self.folder}", file=sys.stderr, flush=True)
        try:
            if not self.python.exists():
                self.folder.parent.mkdir(parents=True, exist_ok=True)
                if self.uv:
                    self._run(self.uv, "venv", "--quiet", "--python", sys.executable, self.folder)
                else:
                    self._run(sys.executable, "-m", "venv", self.folder)
            pip = (self.uv, "pip", "install", "--python", self.python) if self.uv else (self.python, "-m", "pip", "install")
            self._run(*pip, "--quiet", *self.pins, *INSTALLED[name])
            mark.touch()
        except (OSError, subprocess.TimeoutExpired) as error:
            self.missing[name] = f"cannot be installed: {why(str(error))}"
        return self.missing.get(name, "")
