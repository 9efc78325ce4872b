"""How a checkpoint here is asked, as token ids, and how its ids become a response's text.

    chat      limakit's format: the tokenizer knows our EOT and renders our template (model/chat.py)
    template  the chat template that somebody else's tokenizer brings
    plain     a base model goes on from the text of the prompt
    urial     a base model goes on from a fixed prompt with examples (prompting.py)

In none of them is the string of a special token in a text anything but text: "</s>" in a prompt is four characters, and never ends a turn. (A
template that marks its turns with plain text cannot be told from a prompt that contains those marks.)

Some templates write today's date into the prompt; a response would depend on the day. Here it is always the same day, DATE.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Literal

from tokenizers import AddedToken, Tokenizer

from ..errors import LimakitError, UsageError
from ..model.chat import ChatFormat, chat_format
from ..recipe import Prompting
from ..records import Turn
from .prompting import as_text, cut, end_texts, reaches

Kind = Literal["chat", "template", "plain", "urial"]
DATE = date(2024, 7, 26)  # what Llama 3's own templates say where they are told no date


@dataclass(frozen=True)
class Form:
    """How a tokenizer's model is asked. `chat` is there for kind "chat" alone."""

    kind: Kind
    tokenizer: Any
    chat: ChatFormat | None = None

    def encode(self, turns: Sequence[Turn]) -> list[int]:
        """Ids of the dialogue so far: the response comes next. Raises LimakitError where a template refuses the turns."""
        if self.chat is not None:
            return self.chat.encode_prompt(turns)
        if self.kind == "template":
            return self._template_ids(turns)
        assert self.kind in ("plain", "urial")
        # split_special_tokens: "</s>" in a text is four characters
        ids = list(self.tokenizer(as_text(self.kind, turns), split_special_tokens=True)["input_ids"])
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            ids.pop()  # some tokenizers end every text
        return ids

    def ends(self, turns: Sequence[Turn]) -> tuple[str, ...]:
        """The texts that end a response to these turns, besides the stop tokens."""
        return end_texts(self.kind, turns) if self.kind in ("plain", "urial") else ()

    def stop_ids(self, model: Any) -> frozenset[int]:
        """What ends a turn in its format, and EOS: the model wrote of its own accord that the text is over."""
        configured = getattr(model.generation_config, "eos_token_id", None)
        ids = {self.tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])}
        ids.add(self.chat.eot_id if self.chat is not None else self._turn_end if self.kind == "template" else None)
        return frozenset(i for i in ids if i is not None)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are not text."""
        if self.chat is not None:
            return self.chat.decode(ids)
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def text(self, ids: Sequence[int], stops: frozenset[int], ends: Sequence[str]) -> str:
        """A response's text, of all the ids that were generated: without the stop token, the end text and what follows."""
        return cut(self.decode(ids[:-1] if ids and ids[-1] in stops else ids), ends)

    def has_ended(self, ends: Sequence[str]) -> Callable[[Sequence[int]], bool] | None:
        """For `local.decode`: whether generated ids have reached one of the end texts. It is asked after every token, so it reads the tail alone.

        The end texts are ASCII, so each of their characters is at most one token; the rest of the tail is for tokens that are no text.
        """
        if not ends:
            return None
        window = max(map(len, ends)) + 16

        def ended(ids: Sequence[int]) -> bool:
            return reaches(self.decode(ids[-window:]), ends, whole=len(ids) <= window)

        return ended

    @cached_property
    def writes_date(self) -> bool:
        """Whether the template asks what day it is."""
        return self.kind == "template" and "strftime_now" in self._template

    @cached_property
    def _template(self) -> str:
        """The tokenizer's own; where it asks for the day, with a macro of that name before it, for transformers passes on no function."""
        template = str(self.tokenizer.get_chat_template())
        if "strftime_now" not in template:
            return template
        filled = "".join(f" | replace('%{one}', {json.dumps(DATE.strftime(f'%{one}'))})" for one in ("-d", "-m", *"aAbBcdFjmuUVwWxyY"))
        return f"{{% macro strftime_now(how) %}}{{{{ how{filled} }}}}{{% endmacro %}}\n{template}"

    @cached_property
    def _turn_end(self) -> int | None:
        """The special token that the template writes right after an answer, which not every model of that template names as EOS."""
        word = f"turn{secrets.token_hex(12)}"
        turns = (Turn(role="user", text="a"), Turn(role="assistant", text=word))
        try:
            after = self._render(turns, ["a", word]).partition(word)[2].lstrip()
        except LimakitError:  # it renders no answers
            return None
        found = [special for special in self._specials if after.startswith(special)]
        return int(self.tokenizer.convert_tokens_to_ids(max(found, key=len))) if found else None

    def _template_ids(self, turns: Sequence[Turn]) -> list[int]:
        texts = [turn.text for turn in turns]
        if not any(special in text for text in texts for special in self._specials):
            return self._ids_of_rendered(self._render(turns, texts))
        return self._ids_around_texts(turns, texts)

    def _render(self, turns: Sequence[Turn], texts: Sequence[str]) -> str:
        messages = [{"role": turn.role, "content": text} for turn, text in zip(turns, texts, strict=True)]
        try:
            return str(
                self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, chat_template=self._template)
            )
        except Exception as error:  # somebody's template raises whatever it likes
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
            remedy = 'ask it otherwise: prompting = "plain" or "urial"'
            raise LimakitError(f"its chat template refuses the prompt: {reason}", where=self._name, remedy=remedy) from error

    def _ids_of_rendered(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])  # a template writes its BOS itself

    def _ids_around_texts(self, turns: Sequence[Turn], texts: list[str]) -> list[int]:
        """As `_ids_of_rendered`, with the strings of special tokens left as text inside the turns.

        The template is rendered around words that no text contains; its special tokens become marks that the tokenizer knows, and only then do the
        texts take the words' place. Raises LimakitError for a template that does more with a text than strip it.
        """
        words = [f"turn{secrets.token_hex(12)}" for _ in texts]
        frame, real = self._render(turns, words), self._render(turns, texts)
        for candidate in (texts, [text.strip() for text in texts]):
            if _put(frame, words, candidate) == real:
                return self._encode_marked(frame, words, candidate)
        raise LimakitError(
            "its chat template changes texts, and one contains the string of a special token, which would be taken for the token itself",
            where=self._name, remedy='mend the text, or ask otherwise: prompting = "plain"',
        )  # fmt: skip

    def _encode_marked(self, frame: str, words: list[str], texts: list[str]) -> list[int]:
        if not isinstance(getattr(self.tokenizer, "backend_tokenizer", None), Tokenizer):
            raise LimakitError(
                "a text contains the string of a special token, which this slow tokenizer would take for the token itself",
                where=self._name, remedy="use a model with a tokenizer.json, or mend the text",
            )  # fmt: skip
        plain, marks = self._marked
        ids = {}
        for special, mark in marks.items():
            if special in frame:
                ids[plain.token_to_id(mark)] = self.tokenizer.convert_tokens_to_ids(special)
                frame = frame.replace(special, mark)
        return [ids.get(i, i) for i in plain.encode(_put(frame, words, texts), add_special_tokens=False).ids]

    @cached_property
    def _marked(self) -> tuple[Tokenizer, dict[str, str]]:
        """The tokenizer with special tokens as text, and for each of them, the longest first, a mark that it takes for a token in its stead."""
        plain = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        plain.encode_special_tokens = True
        known = {str(token.content): token for token in self.tokenizer.added_tokens_decoder.values()}
        marks = {special: f"<mark-{secrets.token_hex(16)}>" for special in sorted(self._specials, key=len, reverse=True)}
        plain.add_tokens([
            # a token that takes the white space beside it, does
            AddedToken(mark, normalized=False, special=False, **{of: getattr(known.get(special), of, False) for of in ("lstrip", "rstrip")})
            for special, mark in marks.items()
        ])  # fmt: skip
        return plain, marks

    @cached_property
    def _specials(self) -> list[str]:
        added = self.tokenizer.added_tokens_decoder.values()
        return sorted({str(token.content) for token in added if token.special} | set(self.tokenizer.all_special_tokens))

    @property
    def _name(self) -> str:
        return self.tokenizer.name_or_path or "the tokenizer"


def _put(frame: str, words: Sequence[str], texts: Sequence[str]) -> str:
    for word, text in zip(words, texts, strict=True):
        frame = frame.replace(word, text)
    return frame


def form_of(tokenizer: Any, prompting: Prompting) -> Form:
    """How to ask this tokenizer's model. auto: in our chat format, else in the template it brings, else plainly.

    Raises UsageError for "chat" where there is neither.
    """
    if prompting in ("plain", "urial"):
        return Form(prompting, tokenizer)
    chat = chat_format(tokenizer)
    if chat is not None:
        return Form("chat", tokenizer, chat)
    if getattr(tokenizer, "chat_template", None):
        return Form("template", tokenizer)
    if prompting == "chat":
        raise UsageError(
            "its tokenizer has no chat format", where=tokenizer.name_or_path, remedy='ask a base model with prompting = "plain" or "urial"'
        )
    return Form("plain", tokenizer)
