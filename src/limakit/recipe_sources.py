"""The [[sources]] tables of a recipe, one class a kind, and what they share.

Every source has a name, a split, and `take`: how many it must give (or all that it has, where `take` may be left out).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Split = Literal["train", "dev", "test", "held_out"]
ANSWERED: tuple[Split, ...] = ("train", "held_out")  # splits of examples, which have responses; dev and test are prompts
Count = Annotated[int, Field(ge=0)]
Bounds = Annotated[tuple[Count, Count], Field(strict=False)]  # characters of the cleaned response, both ends allowed
Rule = Literal["first_person", "cites_other_answers", "names_site"]
RULES: list[Rule] = ["first_person", "cites_other_answers", "names_site"]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Source(Section):
    allow_fewer: bool = False  # go on with fewer than `take`
    split: Split = "train"

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        for key in ("answer_chars", "prompt_chars", "response_chars"):
            bounds = getattr(self, key, None)
            if bounds is not None and bounds[0] > bounds[1]:
                raise ValueError(f"{key}: the first number must not exceed the second")
        return self


class _Credited(_Source):
    author: str = "unstated"  # whom provenance.jsonl credits
    licence: str = "unstated"
    url: str | None = None
    take: int | None = Field(None, gt=0)  # default all


class StackExchangeSource(_Source):
    """Questions and their top answers of each community (paper, section 2.1)."""

    kind: Literal["stackexchange"]
    path: str  # a folder with one folder (Posts.xml) or archive (NAME.7z) a community
    name: str = ""  # as examples name it; default "stackexchange-GROUP"
    group: Literal["stem", "other", "any"] = "any"
    sites: list[str] | None = None  # only these communities; default every one of the group
    take: int = Field(gt=0)
    temperature: float = Field(3.0, gt=0)
    min_answer_score: int = 10
    answer_chars: Bounds = (1200, 4096)
    drop: list[Rule] = RULES
    prompt: Literal["title", "body", "title_or_body"] = "title_or_body"
    titles: Literal["review", "drop", "keep"] = "review"  # a title that seems not to stand alone: ask a person, drop it, take it

    @property
    def label(self) -> str:
        return self.name or f"stackexchange-{self.group}"


class StackExchangeDialogueSource(_Source):
    """A question, its top answer and the comments under it, asker and answerer in turn. Taken only after review (section 6)."""

    kind: Literal["stackexchange_dialogues"]
    path: str
    name: str = "stackexchange-dialogues"
    group: Literal["stem", "other", "any"] = "any"
    sites: list[str] | None = None
    take: int = Field(gt=0)
    temperature: float = Field(3.0, gt=0)
    min_answer_score: int = 1
    min_turns: int = Field(4, ge=4)  # of both sides together, question and answer included
    turn_chars: Bounds = (1, 4096)  # of each turn

    @property
    def label(self) -> str:
        return self.name


class WikihowSource(_Source):
    """Articles: a category first, then an article in it, so that categories are even (section 2.1)."""

    kind: Literal["wikihow"]
    path: str  # JSONL rows, a folder with one JSON file an article, or wikihowAll.csv / wikihowSep.csv (which have no categories)
    name: str = "wikihow"
    take: int = Field(gt=0)
    categories: list[str] | None = None  # only these top categories; default all
    response_chars: Bounds = (1, 1_000_000)
    drop_sections: list[str] = [
        "references",
        "sources and citations",
        "sources",
        "citations",
        "tips",
        "warnings",
        "related wikihows",
        "related articles",
        "things you'll need",
        "community q&a",
        "video",
        "quick summary",
        "expert interview",
    ]
    licence: str = "CC BY-NC-SA 3.0"

    @property
    def label(self) -> str:
        return self.name


class RedditSource(_Source):
    """Submissions of a subreddit from Pushshift's .zst files, with their best top-level reply or as titles alone. Taken only after review."""

    kind: Literal["reddit"]
    path: str  # a folder with RS_*.zst and RC_*.zst, or with SUBREDDIT_submissions.zst and SUBREDDIT_comments.zst; or one such file
    subreddit: str = Field(pattern=r"^[A-Za-z0-9_.-]{2,30}$")  # its name without "r/"; case does not matter
    use: Literal["pairs", "titles"]  # prompt and reply, or the title of a question as a prompt
    name: str = ""  # default "reddit-SUBREDDIT"
    take: int = Field(gt=0)
    min_score: int = 10  # of the submission; of pairs, of the reply too
    prompt_chars: Bounds = (15, 2000)
    response_chars: Bounds = (400, 8000)
    allow_nsfw: bool = False
    licence: str = "unstated"

    @model_validator(mode="after")
    def _titles_have_no_response(self) -> Self:
        if self.use == "titles" and self.split in ANSWERED:
            raise ValueError('use = "titles" gives prompts without responses: set split = "test" (or "dev"), or use = "pairs"')
        return self

    @property
    def label(self) -> str:
        return self.name or f"reddit-{self.subreddit}"


class NaturalInstructionsSource(_Source):
    """Super-Natural Instructions: one random instance of each of `take` tasks (section 2.1)."""

    kind: Literal["natural_instructions"]
    path: str  # the folder with task*.json
    name: str = "natural-instructions"
    take: int = Field(gt=0)
    tasks: list[str] | None = None  # pinned ids: "task045" or the whole name; default every task of the categories
    categories: list[str] | None = None  # as the files name them; default those that ask for text to be written, English in and out
    prompt_chars: Bounds = (1, 8000)
    response_chars: Bounds = (1, 8000)
    url: str = "https://github.com/allenai/natural-instructions/blob/master/tasks"  # where the task files are published
    licence: str = "Apache-2.0"  # of the definitions; that of an instance is the task file's own, where it says one

    @model_validator(mode="after")
    def _pinned_or_by_category(self) -> Self:
        if self.tasks is not None and self.categories is not None:
            raise ValueError("tasks and categories: name the tasks or their categories; a pinned task is taken whatever its category")
        return self

    @property
    def label(self) -> str:
        return self.name


class AuthoredSource(_Credited):
    """Examples and prompts written by hand: a JSONL file or a folder of Markdown files."""

    kind: Literal["authored"]
    path: str
    name: str = "authored"
    group: Literal["A", "B"] | None = None  # only what that group wrote

    @property
    def label(self) -> str:
        return self.name


class LimaSource(_Credited):
    """The published format: JSONL rows {"conversations": [text, ...], "source": name}; dialogues stay whole."""

    kind: Literal["lima"]
    path: str
    name: str = "lima"

    @property
    def label(self) -> str:
        return self.name


Source = Annotated[
    StackExchangeSource
    | StackExchangeDialogueSource
    | WikihowSource
    | RedditSource
    | NaturalInstructionsSource
    | AuthoredSource
    | LimaSource,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[_Source]] = {
    "stackexchange": StackExchangeSource,
    "stackexchange_dialogues": StackExchangeDialogueSource,
    "wikihow": WikihowSource,
    "reddit": RedditSource,
    "natural_instructions": NaturalInstructionsSource,
    "authored": AuthoredSource,
    "lima": LimaSource,
}
