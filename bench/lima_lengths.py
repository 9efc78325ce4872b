"""Documents as long as the paper's examples (table 1), of random tokens: what the benches of training train on."""

from __future__ import annotations

import math
import random

from limakit.train.steps import Document

# source, examples of 1,000, mean tokens of a prompt and of a response
TABLE_1 = (
    ("STEM", 200, 117, 523),
    ("other", 200, 119, 530),
    ("wikiHow", 200, 12, 1811),
    ("WritingPrompts", 150, 34, 274),
    ("Super-NI", 50, 236, 92),
    ("authored", 200, 40, 334),
)
SPREAD = 0.5  # standard deviation of the logarithm of a length; the paper gives means alone
MAX_TOKENS = 2048


def lima_documents(vocabulary: int, n: int = 1000, seed: int = 0, scale: float = 1.0) -> list[Document]:
    """n documents in table 1's proportions, trimmed at 2,048 tokens as training trims, the loss on the response; the same for a seed,
    source by source. `scale` shortens all of them, the trim too, for rehearsals.
    """
    draw = random.Random(seed)
    counts = [round(n * share / 1000) for _, share, _, _ in TABLE_1[:-1]]
    longest = math.ceil(scale * MAX_TOKENS)
    made = []
    for (source, _, *means), count in zip(TABLE_1, [*counts, n - sum(counts)], strict=True):
        for i in range(count):
            prompt, response = (max(1, round(scale * mean * draw.lognormvariate(-(SPREAD**2) / 2, SPREAD))) for mean in means)
            prompt = min(prompt, longest - 1)
            ids = tuple(draw.randrange(3, vocabulary) for _ in range(min(longest, prompt + response)))
            made.append(Document(f"{source}-{i}", ids, tuple(k >= prompt for k in range(len(ids)))))
    return made
