"""Keys and values of rows that are decoded side by side: a slot for each, written in place, where a row that has ended makes room.

All rows end in the same column, and a row begins as many columns before it as it has tokens, so a step writes one column, and what a
model of transformers sees is a batch padded on the left. Columns before the longest row's are given up; the buffers are moved when their
end is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DummyLayer, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

SPARE = 64  # columns at least, or a quarter of those in use, until the buffers are moved again


def can_slot(config: Any) -> bool:
    """Whether every layer of the model's cache is keys and values, whole or of a window. Recurrent and convolutional states (LFM2, Jamba,
    Qwen3-Next) and indices of what to attend to (DeepSeek V3.2) are not, nor is a kind of layer that transformers' cache does not know."""
    try:
        layers = DynamicCache(config=config).layers
    except (KeyError, ValueError, AttributeError, TypeError):
        return False
    return bool(layers) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer) for layer in layers)


@dataclass
class _Span:
    """The columns in use."""

    begin: int = 0
    end: int = 0


class _Slotted(DynamicLayer):
    """One layer's keys and values, [slots, heads, columns, width]; a sliding window sees its last columns alone."""

    def __init__(self, span: _Span, window: int | None):
        super().__init__()
        self.is_sliding, self._span, self._window = window is not None, span, window

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the column at the span's end; the columns that a query there may see, it included."""
        begin, end = self._span.begin, self._span.end
        if self._window is not None:
            begin = max(begin, end + 1 - self._window)
        assert self.keys is not None and self.values is not None
        self.keys[:, :, end] = key_states[:, :, 0]
        self.values[:, :, end] = value_states[:, :, 0]
        return self.keys[:, :, begin : end + 1], self.values[:, :, begin : end + 1]

    def get_seq_length(self) -> int:
        return self._span.end - self._span.begin

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        length = self.get_seq_length()
        offset = 0 if self._window is None else max(0, length - self._window + 1)
        return length + query_length - offset, offset


class Slots(Cache):
    """A cache for steps of one token each; prompts are run through a cache of their own and then `enter`."""

    def __init__(self, config: Any, device: torch.device):
        self._span, self._config, self._device = _Span(), config, device
        self._mask_SC = torch.zeros(0, 0, dtype=torch.int64, device=device)  # which columns are a row's
        layers = [
            layer if isinstance(layer, DummyLayer) else _Slotted(self._span, getattr(layer, "sliding_window", None))
            for layer in self.for_prompts().layers
        ]
        super().__init__(layers=layers)

    def for_prompts(self) -> DynamicCache:
        """An empty cache to run prompts through."""
        return DynamicCache(config=self._config)

    def fits(self, prompts: DynamicCache) -> bool:
        """Whether the model wrote its keys and values where these slots have theirs; one that knows no cache writes none."""
        return all(
            new.keys is not None and new.values is not None
            for mine, new in zip(self.layers, prompts.layers, strict=True)
            if isinstance(mine, _Slotted)
        )

    def enter(self, slots: Sequence[int], prompts: DynamicCache, which: Sequence[int], lengths: Sequence[int]) -> None:
        """Prompts that were run, the longest without padding, take these slots: slots[i] that of row which[i], which has lengths[i]
        tokens. The first to enter make the slots, 0 to their number; others take those whose rows have ended.
        """
        span, longest = self._span, max(lengths)
        if not len(self._mask_SC):
            self._mask_SC = self._mask_SC.new_zeros(len(slots), 0)
        if longest > span.end:
            self._lay_out(range(len(self._mask_SC)), longest, prompts)
        slots_N, which_N = (torch.tensor(of, device=self._device) for of in (slots, which))
        self._mask_SC[slots_N] = 0
        for slot, length in zip(slots, lengths, strict=True):
            self._mask_SC[slot, span.end - length : span.end] = 1
        for layer, new in zip(self.layers, prompts.layers, strict=True):
            if isinstance(layer, _Slotted):
                start = span.end - new.keys.shape[2]  # a window's layer has kept its last columns
                layer.keys[slots_N, :, start : span.end] = new.keys[which_N]
                layer.values[slots_N, :, start : span.end] = new.values[which_N]

    def stay(self, slots: Sequence[int], longest: int) -> None:
        """Leave these slots alone, in this order; the longest of their rows has `longest` tokens."""
        self._lay_out(slots, longest)

    def open(self, longest: int) -> Tensor:
        """A new column for rows of which the longest has so many tokens before it; the mask of their columns and the new one.
        [S, longest + 1]
        """
        span = self._span
        span.begin = span.end - longest
        if span.end == self._mask_SC.shape[1]:
            self._lay_out(range(len(self._mask_SC)), longest)
        self._mask_SC[:, span.end] = 1
        return self._mask_SC[:, span.begin : span.end + 1]

    def close(self) -> None:
        """The new column is written."""
        self._span.end += 1

    def _lay_out(self, staying: Sequence[int], columns: int, first: DynamicCache | None = None) -> None:
        """New buffers of these slots, whose last columns now end in column `columns`; `first` says what those of the layers are like.

        They are zero where nothing was written: what is masked counts nothing, but nothing times not-a-number would not be nothing.
        """
        span, capacity = self._span, columns + max(SPARE, columns // 4)
        kept, staying_N = min(columns, span.end), torch.tensor(list(staying), device=self._device)

        def lay(old_SHCD: Tensor) -> Tensor:
            new_SHCD = old_SHCD.new_zeros(len(staying), old_SHCD.shape[1], capacity, old_SHCD.shape[3])
            new_SHCD[:, :, columns - kept : columns] = old_SHCD[:, :, span.end - kept : span.end][staying_N]
            return new_SHCD

        for layer, like in zip(self.layers, first.layers if first is not None else self.layers, strict=True):
            if isinstance(layer, _Slotted):
                if layer.keys is None:
                    layer.keys, layer.values = (of.new_zeros(len(staying), of.shape[1], 0, of.shape[3]) for of in (like.keys, like.values))
                layer.keys, layer.values = lay(layer.keys), lay(layer.values)
        self._mask_SC = lay(self._mask_SC[:, None, :, None])[:, 0, :, 0]
        span.begin, span.end = 0, columns
