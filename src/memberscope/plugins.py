"""Registries that other packages can extend: built-in items, items registered by a call, and items offered by the entry points of packages.

A package offers an item by an entry point of the registry's group, in its ``pyproject.toml``::

    [project.entry-points."memberscope.attacks"]
    my_attack = "my_package.attacks:MY_ATTACK"

The entry point's name is the item's name. Names are read from the metadata of installed packages when they are first needed, and a
package is imported when its item is used: neither ``import memberscope`` nor ``--help`` imports any. If something is wrong with a
plug-in, one line on stderr names it, and everything else works without it.
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
        name: the name of the item.
        package: the name of the package, as installed.
        point: the entry point, which loads it.
    """

    name: str
    package: str
    point: metadata.EntryPoint


def offers(group: str) -> tuple[Offer, ...]:
    """The entry points of a group, sorted by name and package; nothing is imported."""
    found = {
        Offer(name=point.name, package=point.dist.name if point.dist else point.value, point=point)
        for point in _points(tuple(sys.path)).select(group=group)
    }
    return tuple(sorted(found, key=lambda offer: (offer.name, offer.package)))


@lru_cache(maxsize=1)
def _points(path: tuple[str, ...]) -> Any:
    """All entry points of the packages on `path`, read once."""
    return metadata.entry_points()


def offered_names(group: str, *, taken: Collection[str] = ()) -> str:
    """The names that installed packages offer in a group, as a phrase for a help text: ``"toy (toy-package)"``, or ``""``.

    Names that are `taken` by built-ins are left out, and of several packages that offer one name only the first counts.
    """
    first = {offer.name: offer for offer in reversed(offers(group)) if offer.name not in taken}
    return ", ".join(f"{name} ({first[name].package})" for name in sorted(first))


class Registry(Generic[T]):
    """Items of one kind, by name."""

    def __init__(
        self,
        group: str,
        kind: str,
        builtin: Mapping[str, T],
        *,
        check: Callable[[str, object, str], T],
        reserved: Mapping[str, str] | None = None,
    ) -> None:
        """Make a registry with the built-in items.

        Args:
            group: the group of entry points, such as ``memberscope.attacks``.
            kind: the word for an item in messages, such as ``attack``.
            builtin: name -> item, in the order in which they are listed.
            check: ``(name, item, package)`` -> the item to keep, if it is of the right kind and has that name; else it raises TypeError
                or ValueError with the reason.
            reserved: further names that no item may have, such as groups and aliases, each with its owner.
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
        """Name -> entry point, without those whose names are refused; a line on stderr names each of these."""
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
        """Raise UserError if a name is taken, or cannot be used in a rule or in a metric's name."""
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{self.kind} {name!r} of {package}: not a valid name; allowed: lower-case letters, digits and underscores, "
                "starting with a letter"
            )
        owner = (
            BUILT_IN
            if name in self._builtin
            else self._reserved.get(name) or (self._registered[name][1] if name in self._registered else offered.get(name))
        )
        if owner is not None:
            raise UserError(f"{self.kind} {name!r} of {package}: the name is taken by {owner}; allowed: a name of its own")

    def register(self, thing: T, *, name: str, package: str) -> T:
        """Add an item in this process; processes that it starts know only what packages offer by entry points.

        Raises:
            UserError: the name is taken, or the item is not of the registry's kind.
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
        """Remove an item that `register` added; KeyError for any other."""
        with self._lock:
            del self._registered[name]

    def names(self) -> tuple[str, ...]:
        """All names: built in, registered, and offered by packages unless they failed to load. Nothing is loaded."""
        offered = [name for name in self._offers if self._loaded.get(name, True) is not None]
        return (*self._builtin, *self._registered, *offered)

    def __contains__(self, name: str) -> bool:
        """Whether there is an item of that name; nothing is loaded."""
        return name in self.names()

    def get(self, name: str) -> T:
        """The item of that name; a plug-in is loaded.

        Raises:
            UserError: there is none (the message names the nearest ones), or the plug-in could not be loaded.
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
        """All items, in the order of `names`; every plug-in is loaded, and those that cannot be loaded are left out."""
        yield from self._builtin.values()
        yield from self.extra()

    def extra(self) -> Iterator[T]:
        """The items that are not built in; every plug-in is loaded, and those that cannot be loaded are left out."""
        yield from [thing for thing, _ in self._registered.values()]
        for offer in self._offers.values():
            found = self._load(offer)
            if found is not None:
                yield found

    def _load(self, offer: Offer) -> T | None:
        """The item of an entry point, loaded once; None, after one line on stderr, if that fails."""
        with self._lock:
            if offer.name not in self._loaded:
                try:
                    self._loaded[offer.name] = self._check(offer.name, offer.point.load(), offer.package)
                except (Exception, SystemExit) as error:  # an imported package can raise anything
                    why = " ".join(f"{type(error).__name__}: {error}".split())
                    _warn(f"{self.kind} {offer.name!r} of {offer.package} could not be loaded and is left out: {why}")
                    self._loaded[offer.name] = None
            return self._loaded[offer.name]


def _warn(line: str) -> None:
    print(f"memberscope: {line}", file=sys.stderr, flush=True)
