"""Documents as long as the paper's examples (table 1), of random tokens: what the benches of training train on."""

from __future__ import annotations

import math
import random

from limakit.train.steps import Document

# examples, mean tokens of a prompt and of a response
TABLE_1 = (
    (200, 117, 523),  # Stack Exchange, STEM
    (200, 119, 530),  # Stack Exchange, other
    (200, 12, 1811),  # wikiHow
    (150, 34, 274),  # r/WritingPrompts
    (50, 236, 92),  # Super-Natural Instructions
    (200, 40, 334),  # authored
)
SPREAD = 0.4  # of the logarithm of a length; the paper gives means alone
MAX_TOKENS = 2048


def lima_lengths(n: int = 1000, seed: int = 0, scale: float = 1.0) -> list[tuple[int, int]]:
    """(tokens, tokens of the prompt with BOS and EOT) of n examples in table 1's proportions, trimmed at 2,048 as training trims; the same for a seed.

    `scale` shortens all of them, the trim too, for rehearsals.
    """
    draw = random.Random(seed)
    sources = [(prompt, response) for share, prompt, response in TABLE_1 for _ in range(share)]
    made = []
    for prompt, response in (sources[i * len(sources) // n] for i in range(n)):
        lengths = [max(1, round(scale * mean * draw.lognormvariate(-(SPREAD**2) / 2, SPREAD))) for mean in (prompt, response)]
        limit = math.ceil(scale * MAX_TOKENS)
        asked = min(lengths[0] + 2, limit - 1)
        made.append((min(limit, asked + lengths[1] + 1), asked))
    draw.shuffle(made)
    return made


def lima_documents(vocabulary: int, n: int = 1000, seed: int = 0, scale: float = 1.0) -> list[Document]:
    """Such documents, of random tokens, the loss on the response."""
    draw = random.Random(seed)
    return [
        Document(f"ex-{i}", tuple(draw.randrange(3, vocabulary) for _ in range(length)), tuple(k >= asked for k in range(length)))
        for i, (length, asked) in enumerate(lima_lengths(n, seed, scale))
    ]
