"""What there is to judge: the prompts, and each model's responses to them, a dialogue's together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import LimakitError
from ..progress import warn
from ..records import Prompt, Response, jsonl_lines, parse_row, read_jsonl
from ..workspace import Workspace, sha256_file

Key = tuple[str, int]  # prompt and sample


@dataclass(frozen=True)
class Entries:
    """A model's responses. `said` holds by prompt and sample those to turn 0, 1, ..., as far as they go; of prompts that are asked, in their order.

    `inputs` are the hashes of the files that this was read from, by their names in the workspace.
    """

    model: str
    path: Path
    said: dict[Key, tuple[Response, ...]]
    inputs: dict[str, str]

    def whole(self, prompts: dict[str, Prompt]) -> list[Key]:
        """Where every turn of the prompt was answered."""
        return [key for key, responses in self.said.items() if len(responses) == 1 + len(prompts[key[0]].follow_ups)]


def read_prompts(path: Path) -> dict[str, Prompt]:
    """Prompts by id. Raises LimakitError for a missing file and for two of one id."""
    if not path.is_file():
        raise LimakitError("no prompts to judge by", where=path, remedy="run limakit curate, or set generate.prompts in the recipe")
    listed = read_jsonl(path, Prompt)
    prompts = {prompt.id: prompt for prompt in listed}
    if len(prompts) < len(listed):
        raise LimakitError(f"{len(listed) - len(prompts)} prompts share their id with another", where=path, remedy="rename them")
    return prompts


def read_entries(workspace: Workspace, model: str, path: Path, prompts: dict[str, Prompt], prompts_path: Path) -> Entries:
    """A model's responses to the prompts; says which are not answered.

    Raises LimakitError for a missing or empty file, a repeated response, another model's row, a turn the prompt does not have or whose turns
    before it are not there, and where no prompt is answered.
    """
    shown = workspace.relative(prompts_path)
    found = _read(path, model)
    known = {prompt_id for prompt_id, _ in found if prompt_id in prompts}
    others = len({prompt_id for prompt_id, _ in found}) - len(known)
    if not known:
        raise LimakitError(f"none of its responses answers a prompt of {shown}", where=path, remedy="generate them again")
    if others or len(known) < len(prompts):
        warn(f"{model}: answers {len(known)} of the {len(prompts)} prompts of {shown}" + (f", and {others} others" if others else ""))
    said = {key: _dialogue(found[key], prompts[key[0]], path) for key in _in_order(list(found), prompts)}
    hashes = {shown: sha256_file(prompts_path), workspace.relative(path): sha256_file(path)}
    return Entries(model, path, said, hashes)


def _read(path: Path, model: str) -> dict[Key, dict[int, Response]]:
    """Responses by prompt and sample, then turn."""
    if not path.is_file():
        remedy = f"limakit generate, with --name {model} and --model for a baseline, or --baseline {model} for one of the recipe's, or --import FILE"
        raise LimakitError(f"no responses by {model!r}", where=path, remedy=remedy)
    found: dict[Key, dict[int, Response]] = {}
    for row, line in jsonl_lines(path):
        response = parse_row(Response, line, path, row)
        turns = found.setdefault((response.prompt_id, response.sample), {})
        if response.model != model:
            remedy = f'the file of a model holds its rows alone: "model" has to be {model!r}'
            raise LimakitError(f"model: a response by {response.model!r}", where=f"{path}, row {row}", remedy=remedy)
        if response.turn in turns:
            which = f"prompt {response.prompt_id!r}, sample {response.sample}" + (f", turn {response.turn}" if response.turn else "")
            raise LimakitError(f"a second response to {which}", where=f"{path}, row {row}", remedy="remove one")
        turns[response.turn] = response
    if not found:
        raise LimakitError("no responses in it", where=path, remedy="generate them again")
    return found


def _dialogue(turns: dict[int, Response], prompt: Prompt, path: Path) -> tuple[Response, ...]:
    if max(turns) > len(prompt.follow_ups):
        what = f"a response to turn {max(turns)} of prompt {prompt.id!r}, which has {len(prompt.follow_ups)} follow-ups"
        raise LimakitError(what, where=path, remedy="generate them again: the prompts have changed since")
    if gap := set(range(max(turns))) - set(turns):
        what = f"a response to turn {max(turns)} of prompt {prompt.id!r} and none to turn {min(gap)} before it"
        raise LimakitError(what, where=path, remedy="generate them again: what was said before belongs to what is judged")
    return tuple(turns[n] for n in sorted(turns))


def _in_order(keys: Sequence[Key], prompts: dict[str, Prompt]) -> list[Key]:
    place = {prompt_id: i for i, prompt_id in enumerate(prompts)}
    return sorted((key for key in keys if key[0] in place), key=lambda key: (place[key[0]], key[1]))


def shared(mine: Entries, theirs: Entries, prompts: dict[str, Prompt]) -> list[Key]:
    """Prompts and samples that both answer, every turn of them. Says what is left out: two files may answer other prompts or hold more samples.

    Raises LimakitError where there are none.
    """
    keys = {entries.model: entries.whole(prompts) for entries in (mine, theirs)}
    other = set(keys[theirs.model])
    both = [key for key in keys[mine.model] if key in other]
    if not both:
        what = f"{mine.model} and {theirs.model} have no prompt and sample in common"
        raise LimakitError(what, where=theirs.path, remedy="generate both for the same prompts")
    if len(both) == len(mine.said) == len(theirs.said):
        return both
    common = {prompt_id for prompt_id, _ in mine.said} & {prompt_id for prompt_id, _ in theirs.said}
    why = f"they share {len(common)} prompts ({mine.model} answers {_prompts(mine)}, {theirs.model} {_prompts(theirs)})"
    samples = {entries.model: max(sample for _, sample in entries.said) + 1 for entries in (mine, theirs)}
    if len(set(samples.values())) > 1:
        why += f", with up to {samples[mine.model]} samples of each by {mine.model} and {samples[theirs.model]} by {theirs.model}: "
        why += "sample n is compared with sample n"
    for entries in (mine, theirs):
        if cut := len(entries.said) - len(keys[entries.model]):
            why += f"; {cut} dialogues of {entries.model} lack a turn, and dialogues are compared whole"
    warn(
        f"compared are {len(both)} of the {len(mine.said)} responses by {mine.model} and of the {len(theirs.said)} by {theirs.model}: {why}"
    )
    return both


def _prompts(entries: Entries) -> int:
    return len({prompt_id for prompt_id, _ in entries.said})
