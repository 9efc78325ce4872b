"""People speak as groups: crowd/anna and crowd/ben are the group crowd, as the crowd workers of the paper's figure 1 are one judge."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from ..records import Asked, Judgment


def group_of(judge: str, asked: Sequence[Asked | None]) -> str:
    """The group of a judge: "crowd" for a person called "crowd/anna"; a person without such a name, and any model, is a group of its own.

    Names of models hold slashes too, so rows that say a model was asked (`asked.kind`) decide; rows that say nothing are taken for people's.
    """
    group, slash, name = judge.partition("/")
    model = any(one is not None and one.kind != "person" for one in asked)
    return group if slash and group and name and not model else judge


def voices(judgments: Sequence[Judgment]) -> dict[str, str]:
    """By judge, the name that its verdicts are counted under: its group's where that has several people, else its own."""
    asked: dict[str, list[Asked | None]] = defaultdict(list)
    for row in judgments:
        asked[row.judge].append(row.asked)
    groups = {judge: group_of(judge, how) for judge, how in asked.items()}
    people = Counter(groups.values())
    return {judge: group if people[group] > 1 else judge for judge, group in groups.items()}
