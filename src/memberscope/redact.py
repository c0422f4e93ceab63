"""Masks passwords in text: everything that is printed, logged or kept goes through `redact` if it may contain an address.

It knows passwords of addresses (``scheme://user:PASSWORD@host``, however the password is spelled), parameters such as ``password=`` or
``sig=`` in query strings and connection strings, and HTTP authorization. All other text stays as it is, and so does redacted text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MASK = "***"
SHORTEST = 4  # characters of a secret that is looked for word by word; a shorter one would be found in ordinary words
LONG_USER = 20  # a user of an http address without a password, and as long as this, is an access token

_SCHEME = r"[A-Za-z][\w+.-]{0,40}"
_NAMES = (
    r"(?:[\w.-]*(?:password|passwd|passphrase|pwd|secret|token|credentials?|signature|access_?key(?:_?id)?|api_?key|account_?key"
    r"|secret_?key|shared_?access_?key|private_?key)|pass|sig|auth|odbc_connect)"
)
_START = re.compile(rf"(?<![\w+.-])(?P<scheme>{_SCHEME})://")
_RUN = re.compile(rf"(?:(?!{_SCHEME}://)[^\s\"'<>`])*")
_ALONE = re.compile(rf"(?:--?[\w-]+=)?(?P<scheme>{_SCHEME})://(?P<rest>[^\r\n]*)")
_QUERY = re.compile(r"\?(?=[\w.%-]+=)")
_PORT = re.compile(r"\d{1,5}(?=[/?#\s]|$)")
_LATER = re.compile(r"(?:(?!://|[\"'][,:}\]])[^\r\n]){1,200}?@(?=[\w\[.-])")  # a password with spaces or quotes, up to its @
_PARAMETER = re.compile(rf"(?P<name>[?&]{_NAMES}=)(?P<value>[^\s&\"'<>`]+?)(?=[:;,.)\]}}]*(?:[\s&\"'<>`]|$))", re.IGNORECASE)
_PARAMETER_ALONE = re.compile(rf"(?P<name>[?&]{_NAMES}=)(?P<value>[^&\r\n]+)", re.IGNORECASE)
_PART = re.compile(rf"(?P<name>;\s?{_NAMES}=)(?P<value>\{{[^}}\r\n]*\}}|[^\s;&\"'<>`]+)", re.IGNORECASE)
_DSN = re.compile(
    r"(?P<name>(?<![\w?&;.-])(?:ssl)?(?:password|passwd|pwd)\s?=\s?)(?P<value>'[^'\r\n]*'|\"[^\"\r\n]*\"|[^\s;&\"']+)",
    re.IGNORECASE,
)
_DSN_LINE = re.compile(r"(?<![\w?&;.-])(?:host|hostaddr|dbname|server|user|uid|driver)\s?=", re.IGNORECASE)
_AUTHORIZATION = re.compile(
    r"(?P<name>authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer)\s+)(?P<value>[^\s\"']+)", re.IGNORECASE
)


def redact(text: str, about: Iterable[str] = ()) -> str:
    """The text with every password in it replaced by ``***``.

    Args:
        text: any text; a text that is one address as a whole may have any character in its password.
        about: addresses that the text may quote in part, as an error does: their passwords are masked wherever they stand.
    """
    for secret in sorted({secret for address in about for secret in secrets_of(address)}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    if "://" not in text and "=" not in text and "uthorization" not in text:
        return text
    alone = _ALONE.fullmatch(text)
    if alone and "://" not in alone["rest"]:
        start = alone.start("rest")
        return _PARAMETER_ALONE.sub(_masked, text[:start] + _without_password(alone["scheme"], text[start:]))
    text = _in_addresses(text)
    text = _PART.sub(_masked, _PARAMETER.sub(_masked, text))
    text = _AUTHORIZATION.sub(_masked, text)
    if _DSN.search(text):
        text = "".join(_DSN.sub(_masked, line) if _DSN_LINE.search(line) else line for line in text.splitlines(keepends=True))
    return text


def redact_values(value: Any) -> Any:
    """A plain nested value with every text in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(item) for item in value]
    return value


def secrets_of(address: str) -> set[str]:
    """The passwords of an address, as they are written there and as others spell them; nothing shorter than `SHORTEST`.

    A program that reads the address may split a password that was not encoded, so its parts are listed as well.
    """
    found: set[str] = set()
    alone = _ALONE.fullmatch(address)
    if alone and (split := split_address(alone["scheme"], alone["rest"])) is not None and split[1]:
        password = split[1]
        found |= {password, unquote(password), *re.split(r"[/@:?#\[\]\s]", password)}
    found |= {part["value"] for pattern in (_PARAMETER_ALONE, _PART) for part in pattern.finditer(address)}
    for secret in list(found):
        plain = unquote_plus(secret)
        found |= {plain, quote(plain, safe=""), quote_plus(plain)}
    return {secret for secret in found if len(secret) >= SHORTEST and secret != MASK}


def split_address(scheme: str, rest: str) -> tuple[str, str, str] | None:
    """User, password and what follows the ``@``, of the rest of an address after ``://``; None if it names no user.

    A password that contains ``@``, ``/``, ``?`` or ``#`` is taken as a whole: everything from the first colon to the last ``@`` before
    the query.
    """
    if scheme.lower().startswith(("file", "sqlite")) or rest.startswith(("/", "[")):
        return None
    query = _QUERY.search(rest)
    main = rest[: query.start()] if query else rest
    end = main.rfind("@")
    authority = re.split(r"[/?#]", main, maxsplit=1)[0]
    colon = main.find(":", 0, max(end, 0))
    if end < 0:
        return None
    if colon < 0 or colon > len(authority):
        at = authority.rfind("@")
        return (authority[:at], "", rest[at + 1 :]) if at >= 0 else None
    if "@" not in authority and scheme.lower().startswith(("http", "tcp", "tls", "ws")) and _PORT.match(main, colon + 1):
        return None  # host:port, and an @ somewhere in the path
    return main[:colon], main[colon + 1 : end], rest[end + 1 :]


def _without_password(scheme: str, rest: str) -> str:
    """The rest of an address after ``://``, with its password masked."""
    found = split_address(scheme, rest)
    if found is None:
        return rest
    user, password, after = found
    if password:
        return f"{user}:{MASK}@{after}"
    return f"{MASK}@{after}" if scheme.lower().startswith("http") and len(user) >= LONG_USER else rest


def _in_addresses(text: str) -> str:
    """A text with the passwords of all addresses in it masked."""
    parts, place = [], 0
    for start in _START.finditer(text):
        if start.start() < place:
            continue
        run = _RUN.match(text, start.end())
        assert run is not None  # it may be empty
        end, rest = run.end(), run[0]
        user, colon, after = re.split(r"[/?#]", rest, maxsplit=1)[0].partition(":")
        is_file = start["scheme"].lower().startswith(("file", "sqlite"))
        if (
            "@" not in rest
            and colon
            and not user.startswith("[")
            and not is_file
            and not re.fullmatch(r"\d{0,5}[:,.;)\]]*", after)
        ):
            later = _LATER.match(text, end)
            if later:
                parts += [text[place : start.end()], f"{user}:{MASK}@"]
                place = later.end()
                continue
        parts += [text[place : start.end()], _without_password(start["scheme"], rest)]
        place = end
    return "".join([*parts, text[place:]])


def _masked(found: re.Match[str]) -> str:
    return f"{found['name']}{MASK}"
