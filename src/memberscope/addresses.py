"""Addresses that options name: as text, or as ``env:NAME``, the environment variable that holds the address.

With ``env:NAME``, the address and the password in it stay out of the command line and of everything that is logged: only the
name is shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from memberscope.errors import UserError
from memberscope.redact import redact

FROM_ENVIRONMENT = "env:"
STORES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


def resolved(option: str, given: str) -> str:
    """The address that `given` stands for: the value of the variable for ``env:NAME``, else the text itself.

    Raises:
        UserError: the variable is not set; the line names the option.
    """
    if not given.startswith(FROM_ENVIRONMENT):
        return given
    name = given.removeprefix(FROM_ENVIRONMENT)
    address = os.environ.get(name, "").strip() if re.fullmatch(r"[A-Za-z_]\w*", name) else ""
    if not address:
        raise UserError(
            f"{option}={given}: no environment variable of that name holds an address; allowed: env:NAME of a variable that is set, "
            "or the address itself"
        )
    return address


def in_use(arguments: Iterable[str]) -> list[str]:
    """The addresses that this process was given, for `redact`: in its arguments, in variables that they name, and in MLflow's variables.

    Args:
        arguments: of the command line.
    """
    given = list(arguments)
    names = [text.rpartition("=")[2].removeprefix(FROM_ENVIRONMENT) for text in given if FROM_ENVIRONMENT in text]
    return [*given, *(os.environ[name] for name in (*names, *STORES) if name in os.environ)]


def told(text: str, *, given: str, address: str) -> str:
    """A text from elsewhere about an address, such as an error: without its password, and with ``env:NAME`` in its place if given."""
    if given.startswith(FROM_ENVIRONMENT):
        for part in (address, address.partition("://")[2]):  # some leave the scheme out
            text = text.replace(part, given) if part else text
    return redact(text, about=[address])
