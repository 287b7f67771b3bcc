"""Which rules there are, and sets of them with their settings: what judges a load profile, under one version number."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from meterpulse import plugins
from meterpulse.vee import Rule, Settings

_RULE_FILE = re.compile(r"v\d\d_\w+")


@lru_cache(maxsize=1)
def rules() -> dict[str, Rule]:
    """Every rule by its id, in the order of their numbers."""
    names = filter(_RULE_FILE.fullmatch, plugins.available("vee"))
    found = [plugins.implementation("vee", name)() for name in names]
    return {rule.id: rule for rule in sorted(found, key=lambda rule: rule.number)}


@dataclass(frozen=True, eq=False)
class RuleSet:
    """Rules with their settings, in the order in which they run."""

    entries: tuple[tuple[Rule, Settings], ...]

    @classmethod
    def of(cls, settings: Mapping[str, Mapping[str, Any]] | None = None, off: frozenset[str] = frozenset()) -> RuleSet:
        """All rules but those that are `off`, with their defaults where `settings` (by id) has nothing else."""
        given = settings or {}
        return cls(tuple((rule, rule.settings(**given.get(id, {}))) for id, rule in rules().items() if id not in off))

    @cached_property
    def manifest(self) -> str:
        """The rules with their versions and settings as JSON: what the version stands for."""
        shape = {rule.id: {"version": rule.version, **chosen.model_dump(mode="json")} for rule, chosen in self.entries}
        return json.dumps(shape, sort_keys=True, separators=(",", ":"))

    @cached_property
    def version(self) -> int:
        """A positive int64 that changes with any rule, version or setting (63 bits of BLAKE2b of the manifest)."""
        return int.from_bytes(hashlib.blake2b(self.manifest.encode(), digest_size=8).digest(), "big") >> 1

    def without_history(self) -> RuleSet:
        """Only the rules that also run on arrival."""
        return RuleSet(tuple(entry for entry in self.entries if not entry[0].needs_history))
