"""Examples as token ids, so that the same response can be read after its prompt and after nothing.

A model in our chat format (model/chat.py) reads that: utterances that end with EOT, the response's among its tokens. Any other reads plain
text: the turns before the response, each with an empty line after it, then the response. Both begin with the token that the model has for a
beginning: BOS, or, for a base without one, EOS, which stood between its documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..model.chat import chat_format
from ..records import Turn
from .measure import Document


@dataclass(frozen=True)
class Split:
    """Token ids of a beginning, of all turns before the last response, and of that response."""

    start: list[int]
    before: list[int]
    response: list[int]


class Reader:
    """Texts under one tokenizer. `room` is how many tokens its model has positions for, None where there is no limit."""

    def __init__(self, tokenizer: Any, room: int | None):
        self.room = room
        self._tokenizer = tokenizer
        self._chat = chat_format(tokenizer)
        first = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
        self._start = [] if first is None else [int(first)]

    def split(self, turns: Sequence[Turn]) -> Split:
        """The ids of an example's turns. No text becomes a special token."""
        if self._chat is not None:
            ids = self._chat.encode(turns).ids
            ends = [place for place, token in enumerate(ids) if token == self._chat.eot_id]
            begin = len(self._chat.bos_ids)
            return Split(ids[:begin], ids[begin : ends[-2] + 1], ids[ends[-2] + 1 :])
        before = "".join(turn.text + "\n\n" for turn in turns[:-1])
        return Split(self._start, self._plain(before), self._plain(turns[-1].text))

    def with_and_without(self, turns: Sequence[Turn]) -> tuple[Document, Document, int] | str:
        """The response after its prompt, the same tokens after the beginning alone, and how many of its tokens the context has no room for.

        Where a model has no token for a beginning, the response's first token is left out of both: nothing could predict it alone.
        Returns a reason instead where no token is left: the prompt fills the context, or the response has none.
        """
        parts = self.split(turns)
        unread = 0 if parts.start else 1
        if len(parts.response) <= unread:
            return "no_response_tokens"
        prompt = parts.start + parts.before
        held = parts.response if self.room is None else parts.response[: max(0, self.room - len(prompt))]
        if len(held) <= unread:
            return "prompt_too_long"
        cut = len(parts.response) - len(held)
        return _document(prompt, held, unread), _document(parts.start, held, unread), cut

    def whole(self, turns: Sequence[Turn]) -> Document | str:
        """The whole example as far as the context holds it; what is measured begins after the beginning. A reason where there is no token."""
        parts = self.split(turns)
        ids = (parts.before + parts.response)[: None if self.room is None else self.room - len(parts.start)]
        return _document(parts.start, ids, 0) if ids else "no_tokens"

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def _document(before: list[int], measured: list[int], unread: int) -> Document:
    return Document(np.array(before + measured, np.int32), len(before) + unread)
