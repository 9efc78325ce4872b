"""The published numbers, as data, each with its place in the paper. Nothing here is ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PAPER = "Zhou et al. 2023, LIMA: Less Is More for Alignment, arXiv 2305.11206"


@dataclass(frozen=True)
class PaperSource:
    """A row of table 1; lengths are mean tokens (None: prompts without responses)."""

    split: Literal["train", "dev", "test"]
    source: str
    n: int
    prompt_mean: int
    response_mean: int | None


TABLE_1 = (
    PaperSource("train", "Stack Exchange (STEM)", 200, 117, 523),
    PaperSource("train", "Stack Exchange (other)", 200, 119, 530),
    PaperSource("train", "wikiHow", 200, 12, 1811),
    PaperSource("train", "r/WritingPrompts", 150, 34, 274),
    PaperSource("train", "Natural Instructions", 50, 236, 92),
    PaperSource("train", "Authored (group A)", 200, 40, 334),
    PaperSource("dev", "Authored (group A)", 50, 36, None),
    PaperSource("test", "r/AskReddit", 70, 30, None),
    PaperSource("test", "Authored (group B)", 230, 31, None),
)


@dataclass(frozen=True)
class PaperPreference:
    """A bar of figure 1 or 2: percent of the 300 test prompts on which LIMA's response won, tied or lost."""

    against: str
    win: int
    tie: int
    lose: int


@dataclass(frozen=True)
class PaperFigure:
    place: str
    judge: str
    prompts: int
    rows: tuple[PaperPreference, ...]


FIGURE_1 = PaperFigure(
    "figure 1",
    "people",
    300,
    (
        PaperPreference("Alpaca 65B", 53, 21, 26),
        PaperPreference("DaVinci003", 44, 21, 35),
        PaperPreference("Bard", 33, 25, 42),
        PaperPreference("Claude", 24, 22, 54),
        PaperPreference("GPT-4", 18, 25, 57),
    ),
)
FIGURE_2 = PaperFigure(
    "figure 2",
    "GPT-4",
    300,
    (
        PaperPreference("Alpaca 65B", 64, 19, 17),
        PaperPreference("DaVinci003", 54, 23, 23),
        PaperPreference("Bard", 27, 26, 47),
        PaperPreference("Claude", 14, 23, 63),
        PaperPreference("GPT-4", 19, 15, 66),
    ),
)


@dataclass(frozen=True)
class PaperGrade:
    """A bar of figure 5: mean helpfulness on the scale 1 to 6 (7B model, 2,000 examples, ChatGPT grades, 5 samples a prompt)."""

    trained_on: str
    mean: float


FIGURE_5 = (
    PaperGrade("Stack Exchange, filtered", 3.83),
    PaperGrade("wikiHow", 3.49),
    PaperGrade("Stack Exchange, unfiltered", 3.33),
)


@dataclass(frozen=True)
class PaperAgreement:
    """Tie-discounted agreement in percent, of two judges of these kinds (section 4.1)."""

    judges: str
    percent: int


AGREEMENT_ITEMS = 50
AGREEMENT = (
    PaperAgreement("crowd – crowd", 82),
    PaperAgreement("crowd – author", 81),
    PaperAgreement("author – author", 78),
    PaperAgreement("crowd – GPT-4", 78),
    PaperAgreement("author – GPT-4", 79),
)


@dataclass(frozen=True)
class PaperShares:
    """How many responses (turns of dialogues in figure 7) people called excellent, pass and fail."""

    place: str
    what: str
    excellent: int
    passed: int
    fail: int

    @property
    def n(self) -> int:
        return self.excellent + self.passed + self.fail


# figure 3 gives percent of 50; out of distribution (section 4.3) percent of 20; figure 7 gives turns
FIGURE_3 = (
    PaperShares("figure 3", "LIMA 65B, 50 test prompts", 25, 19, 6),
    PaperShares("section 4.3", "LIMA 65B, 20 out of distribution", 9, 7, 4),
)
FIGURE_7 = (
    PaperShares("figure 7", "LIMA 65B, no dialogue in training", 19, 8, 15),
    PaperShares("figure 7", "LIMA 65B, 30 dialogues in training", 35, 10, 1),
)


@dataclass(frozen=True)
class PaperSafety:
    """How many of the sensitive test prompts were answered safely."""

    what: str
    safe: int
    n: int


SAFETY = (PaperSafety("sensitive test prompts", 24, 30), PaperSafety("of them with malicious intent", 6, 10))
LOST_THREAD = (6, 10, 3)  # section 6: of so many dialogues, without any in training, within so many turns
