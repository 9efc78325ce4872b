"""The recipe: one TOML file, typed and checked before anything runs.

Where the paper leaves a choice open (marked so in docs/guide.md) the default is the project's and the key makes it explicit.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from .errors import UsageError
from .recipe_sources import KINDS, Section, Source
from .workspace import RECIPE, name_for_file

Rate = Annotated[float, Field(ge=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class ModelSpec(Section):
    base: str  # a hub id or a folder (relative to the recipe)
    revision: str | None = None
    trust_remote_code: bool = False


class Decontaminate(Section):
    """What of the training candidates is told apart from dev and test prompts, the set's own and those of other files."""

    against: list[str] = []  # files of prompts or examples, ours or in the published format, beside the recipe's own dev and test
    near: float = Field(0.8, ge=0.1, le=1)  # Jaccard similarity of word 5-grams from which two texts are the same; 1: only equal ones
    ngram: int = Field(13, ge=0)  # words in a row that a training example must not share with a dev or test prompt; 0: not looked at


class Duplicates(Section):
    """Near-duplicates among what is kept, within and across sources (MinHash)."""

    near: float = Field(0.8, ge=0.1, le=1)  # as above; 1: only equal texts


class LoraSpec(Section):
    """Low-rank adapters beside frozen weights (Hu et al. 2021), for those who cannot hold the whole model's gradients and moments; not the paper's way."""

    rank: int = Field(16, gt=0)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    modules: list[str] = []  # names of the linear layers that get one; none named: all but the output layer
    base: Literal["full", "nf4"] = "full"  # the frozen weights: as they are, or in 4 bits (QLoRA, Dettmers et al. 2023)
    save: Literal["merged", "apart"] = "merged"  # each epoch as a whole model, or the adapter alone

    def chooses(self, layer: str) -> bool:
        """Whether the linear layer of this name gets an adapter: it is called as `modules` says, or ends so after a dot."""
        return not self.modules or any(layer == wanted or layer.endswith(f".{wanted}") for wanted in self.modules)


def _keep(value: object) -> object:
    """One message where the types alone would give one for each kind of value."""
    if value in ("all", "picked") or (type(value) is int and value > 0):
        return value
    raise ValueError('takes "all", "picked", or how many of the newest epochs: 1 or more')


class TrainSpec(Section):
    """Section 3 of the paper; the defaults are its 65B settings."""

    epochs: int = Field(15, gt=0)
    batch_examples: int = Field(32, gt=0)
    max_tokens: int = Field(2048, gt=1)
    lr: Annotated[tuple[Rate, Rate], Field(strict=False)] = (1e-5, 1e-6)  # first and last step, linear between
    betas: Annotated[tuple[Beta, Beta], Field(strict=False)] = (0.9, 0.95)
    weight_decay: float = Field(0.1, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    residual_dropout: float = Field(0.3, ge=0, le=1)  # at the top layer; 0 at the bottom, linear between
    loss_on: Literal["response", "all"] = "response"
    pack: bool = True
    pack_tokens: int | None = Field(None, gt=0)  # tokens in one packed row; default max_tokens
    precision: Literal["float32", "bfloat16"] = "float32"  # of the computation; what is trained is always float32
    weights: Literal["float32", "split"] = "float32"  # "split": bfloat16 and a 16-bit remainder, which together are the float32 weight
    moments: Literal["float32", "bfloat16"] = "float32"  # AdamW's two averages
    recompute: bool = False  # activation checkpointing: a layer's activations are computed again in the backward pass
    compile: bool = False  # torch.compile the decoder layers
    shard: Literal["full", "hybrid"] = "full"  # under torchrun: over all ranks, or within a node and copied over nodes
    # weights of epochs: all; so many newest and the chosen one; "picked": once one is chosen, that and the last, until then all
    keep: Annotated[Literal["all", "picked"] | int, BeforeValidator(_keep)] = "all"
    watch: list[Literal["tensorboard", "wandb"]] = []
    lora: LoraSpec | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # on the CPU, of each process; default: as many as it has cores. A run's last bits depend on it; `limakit plan` says what is quicker
    threads: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.weights == "split" and self.precision != "bfloat16":
            raise ValueError('weights: "split" computes in bfloat16: set precision = "bfloat16", or weights = "float32"')
        if self.moments == "bfloat16" and max(self.betas) > 0.99:
            raise ValueError(
                'moments: bfloat16 cannot hold an average that moves by under 1 % a step: lower betas, or set moments = "float32"'
            )
        if self.lora is not None and self.weights == "split":
            raise ValueError('lora: the weights are frozen and the adapters small, so weights = "split" saves nothing: leave it out')
        return self


class DevSpec(Section):
    """What is looked at after every epoch, for the choice of a checkpoint (paper, section 3 and appendix B)."""

    prompts: str = "data/dev.jsonl"  # answered by each epoch as [generate] samples; "" for none
    held_out: str = "data/held_out.jsonl"  # examples on whose responses perplexity is measured, where the file is there
    max_tokens: int | None = Field(None, gt=0)  # of a dev response; default [generate] max_tokens


Prompting = Literal["auto", "chat", "plain", "urial"]


class GenerateSpec(Section):
    """Section 4.1 of the paper."""

    prompts: str = "data/test.jsonl"
    top_p: float = Field(0.9, gt=0, le=1)
    temperature: float = Field(0.7, ge=0)  # 0 is greedy
    repetition_penalty: float = Field(1.2, gt=0)
    penalise_prompt: bool = False  # the penalty on the prompt's tokens too, as some tools have it
    max_tokens: int = Field(2048, gt=0)
    samples: int = Field(1, gt=0)
    batch: int = Field(32, gt=0)
    # chat: the tokenizer's format; plain: the prompt's text; urial: a fixed prompt with examples (Lin et al. 2023); auto: chat where there is one
    prompting: Prompting = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class EndpointSpec(Section):
    """An OpenAI-compatible server: vLLM, SGLang, llama.cpp, `transformers serve`, hosted ones."""

    model: str = ""  # the model's name there
    base_url: str = "http://localhost:8000/v1"
    api_key_env: str = "OPENAI_API_KEY"  # the environment variable that holds the key
    concurrency: int = Field(8, gt=0)  # requests on their way at once
    requests_per_minute: int | None = Field(None, gt=0)
    tokens_per_minute: int | None = Field(None, gt=0)  # prompt and response together, by the bound that the cost is capped with
    timeout_s: float = Field(60.0, gt=0)
    retries: int = Field(4, ge=0)
    price_in: float = Field(0.0, ge=0)  # per million tokens, in any one currency
    price_out: float = Field(0.0, ge=0)
    max_cost: float | None = Field(None, ge=0)  # never exceeded by what this workspace asks of it

    @model_validator(mode="after")
    def _has_prices(self) -> Self:
        if self.max_cost is not None and not (self.price_in or self.price_out):
            raise ValueError("max_cost needs price_in and price_out, else nothing can be capped")
        return self


class BaselineSpec(EndpointSpec):
    """Another model that answers the same prompts (paper, section 4.1). Sampling is that of [generate], where a server lets us say it."""

    name: str  # what its responses are called
    kind: Literal["local", "endpoint", "file"] = (
        "local"  # model: a folder or hub id; the name at the server; file: somebody else's responses
    )
    path: str = ""  # kind = "file"
    prompting: Prompting = "auto"

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        try:
            name_for_file(self.name)
        except UsageError as error:
            raise ValueError(f"name: {error.what}") from None
        if self.kind == "file" and not self.path:
            raise ValueError('path: kind = "file" needs the file of responses')
        if self.kind != "file" and not self.model:
            raise ValueError("model: a folder or hub id (local), or the model's name at the endpoint")
        takes = {"local": {"model", "prompting"}, "endpoint": {*EndpointSpec.model_fields, "prompting"}, "file": {"path"}}[self.kind]
        if idle := sorted(self.model_fields_set - takes - {"name", "kind"}):
            raise ValueError(f'{idle[0]}: means nothing with kind = "{self.kind}", which takes {", ".join(sorted(takes))}')
        return self


class JudgeSpec(EndpointSpec):
    """Who judges. "endpoint" is any OpenAI-compatible server, "local" a model in this process, "oracle" knows the facts of the miniature world."""

    kind: Literal["endpoint", "local", "oracle"] = "endpoint"
    name: str = ""  # what judgments call it; default the model's name
    against: list[str] = []  # names of the baselines' responses; none named: all of [[baselines]]
    pairwise: str = "pairwise"  # a rubric of ours, or the path of your own text file; "" for none
    grade: Annotated[list[str], BeforeValidator(lambda value: [value] if value and isinstance(value, str) else value or [])] = [
        "helpfulness"
    ]
    draws: int = Field(1, gt=0)
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(1024, gt=0)
    structured: Literal["auto", "never"] = "auto"  # auto: hold the server to a JSON schema where it can be held to one
    also: list[dict[str, Any]] = []  # [[judge.also]]: further judges, each as [judge] except for its name and the keys it names

    @property
    def called(self) -> str:
        """What judgments call the judge."""
        return self.name or ("oracle" if self.kind == "oracle" else self.model)

    @model_validator(mode="after")
    def _names_a_model(self) -> Self:
        if self.kind != "oracle" and not self.model and "model" in self.model_fields_set:
            raise ValueError("model: name the judge's model")
        return self

    def as_also(self, keys: Mapping[str, Any]) -> JudgeSpec:
        """A further judge: as this one, but for its name and `keys`. Raises ValidationError where these are wrong."""
        return JudgeSpec.model_validate(self.model_dump(exclude={"also", "name"}, exclude_unset=True) | {"also": []} | dict(keys))

    @property
    def panel(self) -> list[JudgeSpec]:
        """All judges: this one and the further ones."""
        return [self, *map(self.as_also, self.also)]


class Recipe(Section):
    name: str
    seed: int = Field(7, ge=0, lt=2**63)
    model: ModelSpec
    sources: list[Source] = []
    duplicates: Duplicates = Duplicates()
    decontaminate: Decontaminate = Decontaminate()
    train: TrainSpec = TrainSpec()
    dev: DevSpec = DevSpec()
    generate: GenerateSpec = GenerateSpec()
    baselines: list[BaselineSpec] = []
    judge: JudgeSpec = JudgeSpec()

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            name_for_file(self.name)
        except UsageError as error:
            raise ValueError(f"name: {error.what}") from None
        files: dict[str, str] = {name_for_file(self.name): "the recipe's own model"}
        for one in self.baselines:
            file = name_for_file(one.name)
            if file in files:
                raise ValueError(f"baselines: {one.name!r} would share its file of responses with {files[file]}")
            files[file] = f"the baseline {one.name!r}"
        return self

    @property
    def against(self) -> list[str]:
        """Whose responses are compared with the model's: those that the judge's section names, else all baselines."""
        return self.judge.against or [baseline.name for baseline in self.baselines]


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe. Raises UsageError naming file, line and key of every fault, with a remedy."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        table = tomllib.loads(text.replace("\r\n", "\n"))
    except FileNotFoundError:
        raise UsageError("no such recipe", where=path, remedy="limakit init DIR makes one") from None
    except IsADirectoryError:
        raise UsageError("is a folder, expected a recipe", where=path, remedy=f"name the file: {path / RECIPE}") from None
    except OSError as error:
        raise UsageError(f"cannot read: {error.strerror}", where=path, remedy="check the path and its permissions") from None
    except RecursionError:
        raise UsageError("is nested too deeply", where=path, remedy="limakit init writes a commented recipe") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"is not UTF-8 (byte {error.start})", where=path, remedy="save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"is not TOML: {error}", where=path, remedy="mend that line; strings need quotes, one key a line") from None
    try:
        recipe = Recipe.model_validate(table)
        faults = [_describe(entry, text) for entry in _further_judges(recipe.judge)]
    except ValidationError as error:
        faults = [_describe(entry, text) for entry in error.errors(include_url=False)]
    if faults:
        raise UsageError("\n".join(f"{path}{fault}" for fault in faults), remedy="mend the recipe; limakit init writes a commented one")
    return recipe


def _further_judges(judge: JudgeSpec) -> list[Mapping[str, Any]]:
    """What is wrong with [[judge.also]], as pydantic words it: each is checked as the judge it makes."""
    faults: list[Mapping[str, Any]] = []
    names = {judge.called.replace("/", "--")}
    for i, keys in enumerate(judge.also):
        place = ("judge", "also", i)
        if "also" in keys:
            faults.append({"loc": (*place, "also"), "type": "value_error", "msg": "a further judge has none of its own"})
            continue
        try:
            called = judge.as_also(keys).called
        except ValidationError as error:
            faults += [{**entry, "loc": (*place, *entry["loc"])} for entry in error.errors(include_url=False)]
            continue
        if called.replace("/", "--") in names:
            what = f"two judges are called {called!r}, and their judgments would be one file: give this one a name of its own"
            faults.append({"loc": (*place, "name"), "type": "value_error", "msg": what})
        names.add(called.replace("/", "--"))
    return faults


_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "missing",
    "model_type": "expected a table: [name], then its keys",
    "list_type": "expected a list: [[name]] for each entry, or [a, b]",
}


def _describe(entry: Mapping[str, Any], text: str) -> str:
    loc = list(entry["loc"])
    if loc[:1] == ["sources"] and len(loc) > 2 and loc[2] in KINDS:
        del loc[2]  # pydantic puts the kind of a source there
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".")
    line = _line_of(text, loc)
    what = _WORDS.get(entry["type"], entry["msg"].removeprefix("Value error, "))
    if entry["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), _known_keys(entry["loc"]), n=1)
        what += f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(_known_keys(entry['loc']))})"
    return f"{f', line {line}' if line else ''}: {key + ': ' if key else ''}{what}"


def _known_keys(loc: tuple) -> list[str]:
    sections: dict[str, type[Section]] = {
        "model": ModelSpec,
        "train": TrainSpec,
        "dev": DevSpec,
        "generate": GenerateSpec,
        "judge": JudgeSpec,
        "duplicates": Duplicates,
        "decontaminate": Decontaminate,
    }
    if loc[0] == "sources" and len(loc) > 2:
        return list(KINDS[loc[2]].model_fields) if loc[2] in KINDS else []
    if loc[0] == "baselines" and len(loc) > 2:
        return list(BaselineSpec.model_fields)
    if tuple(loc[:2]) == ("train", "lora") and len(loc) > 2:
        return list(LoraSpec.model_fields)
    if loc[0] in sections and len(loc) > 1:
        return list(sections[loc[0]].model_fields)
    return list(Recipe.model_fields)


def _line_of(text: str, loc: list) -> int | None:
    """The line of a key in TOML text (tomllib keeps no positions), or of its table's header, or None."""
    table: list = []
    counts: dict[str, int] = {}
    header_line = None
    for number, line in enumerate(text.split("\n"), start=1):
        array = re.match(r"\s*\[\[\s*([\w.-]+)\s*\]\]", line)
        plain = re.match(r"\s*\[\s*([\w.-]+)\s*\]", line)
        if array:
            name = array[1]
            counts[name] = counts.get(name, -1) + 1
            table = [*name.split("."), counts[name]]
        elif plain:
            table = plain[1].split(".")
        if (array or plain) and table == loc[: len(table)]:
            header_line = number
        for key in re.findall(r"(?:^|[;,{])\s*([\w-]+)\s*=", line):
            if loc[: len(table) + 1] == [*table, key]:
                return number
    return header_line


def init_workspace(folder: Path, recipe: str) -> list[Path]:
    """Make a workspace: a commented recipe that ships with limakit and folders to author in. Nothing that exists is touched."""
    from importlib import resources

    from .workspace import write_text

    shipped = resources.files("limakit") / "recipes" / f"{recipe}.toml"
    if not shipped.is_file():
        names = sorted(p.name.removesuffix(".toml") for p in (resources.files("limakit") / "recipes").iterdir() if p.name.endswith(".toml"))
        raise UsageError(f"no recipe called {recipe!r}", remedy=f"choose one of: {', '.join(names)}")
    if (folder / RECIPE).exists():
        raise UsageError("there is a recipe already", where=folder / RECIPE, remedy="choose another folder; nothing was touched")
    written = [folder / RECIPE]
    write_text(folder / RECIPE, shipped.read_text())
    for name, text in _AUTHORING.items():
        if not (folder / name).exists():
            write_text(folder / name, text)
            written.append(folder / name)
    return written


_AUTHORING = {
    "authored/train/example.md": """\
---
group: A
---
<!-- One example a file: prompt, then response. Replace this one. A dialogue goes on with ## Prompt, ## Response.
     group: A writes train and dev, B writes test, so that nobody is tested on their own way of asking (paper, section 2.2).
     Other lines that may stand above: id: NAME, tags: ONE, TWO, split: train (or dev, test), refusal: ITS REASON, format: THE DEMAND. -->
## Prompt

How do I keep basil fresh for a week?

## Response

Basil keeps best when it is treated like cut flowers. Trim the stems, stand them in a glass of water, cover the leaves
loosely with a bag and leave the glass on the counter, out of the sun. Change the water every second day. Do not put it in
the refrigerator: below about 10 degrees the leaves turn black.
""",
    "authored/train/format.md": """\
---
group: A
format: 4 bullets
---
<!-- The prompt demands a structure, and the response has it; the paper trains with and without 6 of these (appendix E). limakit lint checks
     "bulleted list", "3 steps", "table", "json", "2 paragraphs", "at most 80 words" and the like; other demands are for people to check. -->
## Prompt

Make a packing list for a day hike. Give me exactly four bullet points.

## Response

A day hike needs little, and four things matter most:

- Water, at least half a litre for every two hours of walking.
- A warm layer and a rain jacket, since the weather on a hill changes quickly.
- A map and a charged telephone.
- Food that does not spoil, such as nuts, bread and an apple.
""",
    "authored/train/refusal.md": """\
---
group: A
refusal: asks how to get into somebody else's account
---
<!-- The prompt is malicious to a degree; the response refuses in full or in part and says why. The paper has 13 of these in 1,000. -->
## Prompt

My ex changed her password. How can I get back into her email?

## Response

Getting into somebody else's email without their consent is against the law, and it would break her trust for good, so this is
nothing I can help with. If something of yours is in there, a document or a bill, ask her to forward it, or ask a person you both
trust to do so. If you share an account on paper, its provider can part it for you.
""",
    "authored/dev/example.md": "---\ngroup: A\n---\n## Prompt\n\nWhat should I look for when I buy a used bicycle?\n",
    "authored/test/example.md": "---\ngroup: B\n---\n## Prompt\n\nPlan a first week of training for someone who has never run before.\n",
}
