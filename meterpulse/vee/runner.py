"""Runs a set of rules over a load profile: a status per rule and channel, a quality per value, all findings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from meterpulse.model.quality import Quality
from meterpulse.vee import MISSING, Context, Findings, Profile, Status
from meterpulse.vee.catalogue import RuleSet

# What a rule may grade. Estimates, edits and values that somebody has verified keep their grade.
_GRADED = (Quality.RAW, Quality.VALID, Quality.VALIDATED, Quality.QUESTIONABLE)


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What a set of rules says of the judged columns [first, after) of n channels."""

    version: int  # of the set
    rules: tuple[str, ...]  # ids, in the order of `status`
    status: np.ndarray  # uint8[rules, n], Status
    quality: np.ndarray  # int32[n, after - first], packed; MISSING where there is no value
    findings: Findings  # in the order of the rules

    @property
    def worst(self) -> np.ndarray:
        """uint8[n]: the status of the set."""
        if not self.rules:
            return np.zeros(self.status.shape[1], np.uint8)
        return self.status.max(axis=0)


def judge(profile: Profile, context: Context, rule_set: RuleSet) -> Verdict:
    """Every rule of the set over every channel. A pure function of its arguments, so threads may judge side by side."""
    n = len(profile)
    status = np.zeros((len(rule_set.entries), n), np.uint8)
    parts = []
    for at, (rule, settings) in enumerate(rule_set.entries):
        outcome = rule.check(profile, context, settings)
        status[at][outcome.applies] = Status.PASS
        np.maximum.at(status[at], outcome.findings.row, outcome.findings.status)
        parts.append(outcome.findings)
    findings = Findings.concat(parts)
    ids = tuple(rule.id for rule, _ in rule_set.entries)
    judged = (status != Status.NOT_APPLICABLE).any(axis=0)
    return Verdict(rule_set.version, ids, status, _graded(profile, judged, findings), findings)


def _graded(profile: Profile, judged: np.ndarray, findings: Findings) -> np.ndarray:
    """Validated where something was judged and nothing fails, questionable where something fails; what came from NEM12
    keeps its flag and method.
    """
    first, after = profile.first, profile.after
    quality = profile.quality[:, first:after]
    graded = np.isin(quality & 0xFF, _GRADED) & (quality != MISSING) & judged[:, None]
    out = np.where(graded, quality & ~0xFF | Quality.VALIDATED, quality).astype(np.int32)
    failed = findings.take(findings.status == Status.FAIL)
    low, high = np.clip(failed.first, first, after) - first, np.clip(failed.after, first, after) - first
    for row, a, b in zip(failed.row, low, high, strict=True):
        part = graded[row, a:b]
        out[row, a:b][part] = out[row, a:b][part] & ~0xFF | Quality.QUESTIONABLE
    return out
