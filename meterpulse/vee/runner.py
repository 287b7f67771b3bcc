"""Runs a set of rules over a load profile: a status per rule and channel, a quality per value, all findings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from meterpulse.model.quality import Quality
from meterpulse.vee import Context, Findings, Profile, Status
from meterpulse.vee.catalogue import RuleSet
from meterpulse.vee.runs import compiled

# What a rule may grade. Estimates, edits and values that somebody has verified keep their grade; and what its sender or a rule on
# arrival doubted stays in doubt until a person has looked at it.
_GRADED = np.isin(np.arange(256), (Quality.RAW, Quality.VALID, Quality.VALIDATED))
_VALIDATED, _QUESTIONABLE = int(Quality.VALIDATED), int(Quality.QUESTIONABLE)


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
    parts: list[Findings] = [Findings.none()] * len(rule_set.entries)

    def run(seen: Profile, after_grading: bool) -> None:
        for at, (rule, settings) in enumerate(rule_set.entries):
            if rule.after_grading == after_grading:
                outcome = rule.check(seen, context, settings)
                status[at][outcome.applies] = Status.PASS
                np.maximum.at(status[at], outcome.findings.row, outcome.findings.status)
                parts[at] = outcome.findings

    run(profile, False)
    quality = _graded(profile, status, Findings.concat(parts))
    if any(rule.after_grading for rule, _ in rule_set.entries):
        run(_with_quality(profile, quality), True)
        quality = _graded(profile, status, Findings.concat(parts))
    ids = tuple(rule.id for rule, _ in rule_set.entries)
    return Verdict(rule_set.version, ids, status, quality, Findings.concat(parts))


def _with_quality(profile: Profile, judged: np.ndarray) -> Profile:
    quality = profile.quality.copy()
    quality[:, profile.first : profile.after] = judged
    return replace(profile, quality=quality)


def _graded(profile: Profile, status: np.ndarray, findings: Findings) -> np.ndarray:
    """int32[n, after - first]: validated where something was judged and nothing fails, questionable where something
    fails; what came from NEM12 keeps its flag and method.
    """
    out = np.empty((len(profile), profile.after - profile.first), np.int32)
    judged = (status != Status.NOT_APPLICABLE).any(axis=0)
    _grade(profile.quality, profile.first, judged, out)
    failed = findings.status == Status.FAIL
    if failed.any():
        columns = findings.row[failed], findings.first[failed], findings.after[failed]
        _question(profile.quality, profile.first, *columns, out)
    return out


@compiled
def _grade(quality, first, judged, out):  # type: ignore[no-untyped-def]
    for r in range(len(out)):
        for c in range(out.shape[1]):
            packed = quality[r, first + c]
            out[r, c] = packed & ~0xFF | _VALIDATED if judged[r] and packed != -1 and _GRADED[packed & 0xFF] else packed


@compiled
def _question(quality, first, row, low, high, out):  # type: ignore[no-untyped-def]
    for k in range(len(row)):
        r = row[k]
        for c in range(max(low[k] - first, 0), min(high[k] - first, out.shape[1])):
            packed = quality[r, first + c]
            if packed != -1 and _GRADED[packed & 0xFF]:
                out[r, c] = packed & ~0xFF | _QUESTIONABLE
