"""Registries that other packages extend: what is built in, what a call registers, and what an installed package offers by entry points.

A package offers a thing by an entry point of the registry's group, in its ``pyproject.toml``::

    [project.entry-points."memberscope.attacks"]
    my_attack = "my_package.attacks:MY_ATTACK"

The entry point's name is the thing's name. Names are read from the metadata of installed packages when they are first asked for, and a
package is imported when its thing is used: neither ``import memberscope`` nor ``--help`` imports any. Where something is wrong with a
plug-in, one line on stderr names it, and everything else goes on without it.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import metadata
from typing import Any, Generic, TypeVar

from memberscope.errors import UserError, nearest

GROUPS = ("memberscope.attacks", "memberscope.metrics", "memberscope.trainers")
BUILT_IN = "memberscope itself"

_NAME = re.compile(r"[a-z][a-z0-9_]*")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Offer:
    """An entry point of an installed package, not loaded yet.

    Attributes:
        name: the name of what it offers.
        package: the name of the package, as installed.
        point: what loads it.
    """

    name: str
    package: str
    point: metadata.EntryPoint


def offers(group: str) -> tuple[Offer, ...]:
    """The entry points of a group by name and package; nothing is imported."""
    found = {
        Offer(name=point.name, package=point.dist.name if point.dist else point.value, point=point)
        for point in _points(tuple(sys.path)).select(group=group)
    }
    return tuple(sorted(found, key=lambda offer: (offer.name, offer.package)))


@lru_cache(maxsize=1)
def _points(path: tuple[str, ...]) -> Any:
    """Every entry point of the packages on `path`, read once."""
    return metadata.entry_points()


def told(group: str, *, taken: Collection[str] = ()) -> str:
    """The names that installed packages offer in a group, as a phrase for a help text: ``"toy (toy-package)"``, or ``""``.

    Names that are `taken` by built-ins are left out, and of several packages that offer one name only the first counts.
    """
    first = {offer.name: offer for offer in reversed(offers(group)) if offer.name not in taken}
    return ", ".join(f"{name} ({first[name].package})" for name in sorted(first))


class Registry(Generic[T]):
    """Things of one kind by name."""

    def __init__(
        self,
        group: str,
        kind: str,
        builtin: Mapping[str, T],
        *,
        check: Callable[[str, object, str], T],
        reserved: Mapping[str, str] | None = None,
    ) -> None:
        """Make a registry that holds what is built in.

        Args:
            group: of entry points, such as ``memberscope.attacks``.
            kind: what they are, for messages: ``attack``.
            builtin: name -> thing, in the order in which they are listed.
            check: ``(name, thing, package)`` -> the thing to keep, where it is of the right sort and carries its name; a TypeError or
                ValueError says what is wrong with it.
            reserved: further names that nothing may take, each with what has it: groups and aliases.
        """
        self.group, self.kind = group, kind
        self._builtin = dict(builtin)
        self._check = check
        self._reserved = dict(reserved or {})
        self._registered: dict[str, tuple[T, str]] = {}
        self._loaded: dict[str, T | None] = {}
        self._lock = threading.RLock()

    @cached_property
    def _offers(self) -> dict[str, Offer]:
        """Name -> entry point, without those whose name is refused, for each of which a line is written."""
        found: dict[str, Offer] = {}
        for offer in offers(self.group):
            try:
                self._check_name(offer.name, offer.package, {name: other.package for name, other in found.items()})
            except UserError as error:
                _warn(str(error))
                continue
            found[offer.name] = offer
        return found

    def _check_name(self, name: str, package: str, offered: Mapping[str, str]) -> None:
        """UserError where a name is taken, or would not do in a rule or a metric's name."""
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{self.kind} {name!r} of {package}: not a name; allowed: small letters, digits and underscores, a letter first"
            )
        owner = (
            BUILT_IN
            if name in self._builtin
            else self._reserved.get(name) or (self._registered[name][1] if name in self._registered else offered.get(name))
        )
        if owner is not None:
            raise UserError(f"{self.kind} {name!r} of {package}: the name is taken by {owner}; allowed: a name of its own")

    def register(self, thing: T, *, name: str, package: str) -> T:
        """Add a thing by a call, in this process; processes started from here know only what packages offer by entry points.

        Raises:
            UserError: the name is taken, or the thing is not what the registry holds.
        """
        with self._lock:
            self._check_name(name, package, {offer.name: offer.package for offer in self._offers.values()})
            try:
                kept = self._check(name, thing, package)
            except (TypeError, ValueError) as error:
                raise UserError(f"{self.kind} {name!r} of {package}: {error}") from None
            self._registered[name] = (kept, package)
        return kept

    def unregister(self, name: str) -> None:
        """Take back what `register` added; KeyError for anything else."""
        with self._lock:
            del self._registered[name]

    def names(self) -> tuple[str, ...]:
        """All names: built in, registered, and offered by packages unless they have failed to load. Loads nothing."""
        offered = [name for name in self._offers if self._loaded.get(name, True) is not None]
        return (*self._builtin, *self._registered, *offered)

    def __contains__(self, name: str) -> bool:
        """Is there a thing of that name? Loads nothing."""
        return name in self.names()

    def get(self, name: str) -> T:
        """The thing of that name; a plug-in is loaded by it.

        Raises:
            UserError: there is none, with the nearest names; or the plug-in could not be loaded.
        """
        if name in self._builtin:
            return self._builtin[name]
        if name in self._registered:
            return self._registered[name][0]
        if name in self._offers:
            found = self._load(self._offers[name])
            if found is None:
                raise UserError(
                    f"{self.kind} {name!r} of {self._offers[name].package}: could not be loaded; see the line above"
                )
            return found
        raise UserError(
            f"{self.kind} {name!r}: unknown{nearest(name, self.names())}; allowed: {', '.join(self.names()) or 'none is known'}"
        )

    def values(self) -> Iterator[T]:
        """Everything, in the order of `names`; loads every plug-in, and leaves out those that cannot be loaded."""
        yield from self._builtin.values()
        yield from self.extra()

    def extra(self) -> Iterator[T]:
        """What is not built in; loads every plug-in, and leaves out those that cannot be loaded."""
        yield from [thing for thing, _ in self._registered.values()]
        for offer in self._offers.values():
            found = self._load(offer)
            if found is not None:
                yield found

    def _load(self, offer: Offer) -> T | None:
        """What an entry point offers, loaded once; None, after one line, where that fails."""
        with self._lock:
            if offer.name not in self._loaded:
                try:
                    self._loaded[offer.name] = self._check(offer.name, offer.point.load(), offer.package)
                except (Exception, SystemExit) as error:  # whatever another package raises as it is imported
                    why = " ".join(f"{type(error).__name__}: {error}".split())
                    _warn(f"{self.kind} {offer.name!r} of {offer.package} could not be loaded and is left out: {why}")
                    self._loaded[offer.name] = None
            return self._loaded[offer.name]


def _warn(line: str) -> None:
    print(f"memberscope: {line}", file=sys.stderr, flush=True)
