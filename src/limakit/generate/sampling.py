"""Which token comes next, as pure functions: repetition penalty, temperature, nucleus, and the response's own noise (paper, section 3).

A response depends on (seed, model, prompt, sample, turn) and not on the batch it was in (promise 7). The noise is a hash of those, of the
position and of the token, so the batch does not enter there. It enters through the logits: the same row in a batch of another shape
differs in the last bits. So `choose` also says whether its choice is sure, the same for all logits within a tolerance; where it is not,
the caller settles it with logits computed in one canonical way (see local.py).

A token is drawn by a race (Gumbel's: the largest of log p + noise wins), not through the cumulative distribution: the race is close as
often as its winner and its second are, whatever the number of tokens, where the distribution has a doubtful edge at each of them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch
from torch import Tensor

CANDIDATES = (64, 1024)  # how many of the most probable tokens are looked at first; where the nucleus is not surely among them, all are


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 is greedy (top_p then plays no part); `repetition_penalty` 1 is none. The penalty is on the tokens generated so far,
    with `penalise_prompt` on the prompt's too."""

    temperature: float
    top_p: float
    repetition_penalty: float
    penalise_prompt: bool = False


def row_key(seed: int, model: str, prompt_id: str, sample: int, turn: int) -> int:
    """What a response's noise hangs on: 64 bits of BLAKE2b over the five, as a signed integer."""
    what = json.dumps([seed, model, prompt_id, sample, turn]).encode()
    return int.from_bytes(hashlib.blake2b(what, digest_size=8).digest(), "big", signed=True)


def uniform(key_B: Tensor, position_B: Tensor, token_BK: Tensor) -> Tensor:
    """A number in (0, 1), 52 bits, for each row's key, position (generated tokens so far) and token. [B, K], float64

    The finaliser of SplitMix64 (Steele, Lea, Flood 2014), over key and position and again over the token: equal on every device.
    """
    at_B1 = _mix(key_B + _GOLDEN * (position_B + 1))[:, None]
    return (_shift(_mix(at_B1 + _GOLDEN * (token_BK + 1)), 12).double() + 0.5) * 2.0**-52


_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as signed 64-bit integers, whose products wrap


def _shift(x: Tensor, bits: int) -> Tensor:
    """x >> bits of the unsigned integer; torch's drags the sign along."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ _shift(x, 27)) * (0x94D049BB133111EB - 2**64)
    return x ^ _shift(x, 31)


def penalise(logits_BV: Tensor, seen_BV: Tensor, penalty: float) -> Tensor:
    """The repetition penalty of Keskar et al. 2019 on the tokens in `seen_BV` (bool), which never has EOT, EOS or padding (local.py).

    As they intend and everybody does it: a negative logit is multiplied, for to divide it would reward. That is the lesser of the two.
    """
    if penalty == 1:
        return logits_BV
    lesser = torch.minimum if penalty > 1 else torch.maximum
    return torch.where(seen_BV, lesser(logits_BV * penalty, logits_BV / penalty), logits_BV)


def nucleus(p_BK: Tensor, top_p: float) -> Tensor:
    """Mask of the smallest set of most probable tokens whose mass reaches top_p (Holtzman et al. 2020); p_BK falls from left to right."""
    return p_BK.cumsum(-1) - p_BK < top_p


def choose(
    logits_BV: Tensor, seen_BV: Tensor, key_B: Tensor, position_B: Tensor, sampling: Sampling, tolerance: float
) -> tuple[Tensor, Tensor]:
    """(token_B, sure_B): the next token of each row, and whether any logits within `tolerance` of these give the same one.

    `tolerance` is relative to the row's largest logit; minus infinity is no token. Of equally probable tokens those with the lower id are in the nucleus first. What
    leads to the candidates is computed in the logits' own precision, whose rounding counts as tolerance, what is decided among them in
    float64.
    """
    scores_BV = penalise(logits_BV, seen_BV, sampling.repetition_penalty)
    rounding = 16 * torch.finfo(logits_BV.dtype).eps
    penalty = max(sampling.repetition_penalty, 1 / sampling.repetition_penalty)
    largest_B = logits_BV.abs().amax(-1)
    if bool(largest_B.isinf().any()):  # what is minus infinity is no token, and has no rounding
        largest_B = logits_BV.nan_to_num(neginf=0.0).abs().amax(-1)
    wrong_B = (tolerance + rounding) * penalty * largest_B.double()
    if sampling.temperature == 0:
        best_B2 = scores_BV.topk(min(2, scores_BV.shape[-1]), dim=-1).values.double()
        return scores_BV.argmax(-1), best_B2[:, 0] - best_B2[:, -1] > 2 * wrong_B
    scores_BV, wrong_B = scores_BV / sampling.temperature, wrong_B / sampling.temperature
    if sampling.top_p >= 1:
        token_BV = torch.arange(scores_BV.shape[-1], device=scores_BV.device).expand_as(scores_BV)
        value_BV = scores_BV.double() + gumbel(key_B, position_B, token_BV)
        return value_BV.argmax(-1), _lead(value_BV) > 2 * wrong_B
    total_B = torch.logsumexp(scores_BV, dim=-1).double()
    return _draw(scores_BV, total_B, key_B, position_B, sampling.top_p, wrong_B, CANDIDATES)


def _draw(
    scores_BV: Tensor, total_B: Tensor, key_B: Tensor, position_B: Tensor, top_p: float, wrong_B: Tensor, sizes: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """`choose` by log probabilities (but for `total_B`) among the sizes[0] most probable tokens; among more of them, in the end among
    all, for the rows whose nucleus may reach beyond. To sort all of a vocabulary for every token takes longer than a small model does.
    """
    few = bool(sizes) and sizes[0] < scores_BV.shape[-1]
    if few:
        token_BK = scores_BV.topk(sizes[0], dim=-1).indices.sort(dim=-1).values  # topk leaves open which of equal ones comes first
        order_BK = torch.sort(scores_BV.gather(-1, token_BK), dim=-1, descending=True, stable=True).indices
        token_BK = token_BK.gather(-1, order_BK)
    else:
        token_BK = torch.sort(scores_BV, dim=-1, descending=True, stable=True).indices
    score_BK = scores_BV.gather(-1, token_BK).double()
    p_BK = torch.exp(score_BK - total_B[:, None])
    eps_B = 2 * wrong_B + 16 * torch.finfo(scores_BV.dtype).eps
    some_BK, most_BK = _nucleus_bounds(p_BK, top_p, eps_B[:, None])
    value_BK = score_BK + gumbel(key_B, position_B, token_BK)
    won_B1 = value_BK.masked_fill(~nucleus(p_BK, top_p), -torch.inf).argmax(-1, keepdim=True)
    # who leads all that may belong to the nucleus, and surely belongs to it, wins whichever of them do
    possible_BK = value_BK.masked_fill(~most_BK, -torch.inf)
    sure_B = some_BK.gather(-1, won_B1)[:, 0] & (possible_BK.argmax(-1) == won_B1[:, 0]) & (_lead(possible_BK) > 2 * wrong_B)
    token_B = token_BK.gather(-1, won_B1)[:, 0]
    if few and bool((beyond_B := most_BK[:, -1]).any()):
        rest = beyond_B.nonzero()[:, 0]
        token_B[rest], sure_B[rest] = _draw(scores_BV[rest], total_B[rest], key_B[rest], position_B[rest], top_p, wrong_B[rest], sizes[1:])
    return token_B, sure_B


def gumbel(key_B: Tensor, position_B: Tensor, token_BK: Tensor) -> Tensor:
    """The race's noise: with it added to log probabilities, each token is the largest with its probability."""
    return -torch.log(-torch.log(uniform(key_B, position_B, token_BK)))


def _lead(value_BK: Tensor) -> Tensor:
    """How far the largest is ahead of the second; infinitely where it is alone."""
    if value_BK.shape[-1] == 1:
        return torch.full_like(value_BK[:, 0], torch.inf)
    best_B2 = value_BK.topk(2, dim=-1).values
    return best_B2[:, 0] - best_B2[:, 1]


def _nucleus_bounds(p_BK: Tensor, top_p: float, eps_B1: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of the tokens in every nucleus, and in some nucleus, of probabilities within a factor 1 +- eps of these, which fall.

    The mass before a token is uncertain by that factor, and so is the order of tokens with nearly the same probability.
    """
    before_BK = p_BK.cumsum(-1) - p_BK
    surely_B1 = (before_BK * (1 + eps_B1) < top_p).sum(-1, keepdim=True)  # how many, going by the mass before them
    possibly_B1 = (before_BK * (1 - eps_B1) < top_p).sum(-1, keepdim=True).clamp(min=1)  # no mass is less than top_p if it is no number
    rest_BK = torch.nn.functional.pad(p_BK, (0, 1))  # where all are in, the first one out has probability 0
    some_BK = p_BK * (1 - 2 * eps_B1) > rest_BK.gather(-1, surely_B1)
    most_BK = p_BK >= p_BK.gather(-1, possibly_B1 - 1) * (1 - 2 * eps_B1)
    return some_BK, most_BK
