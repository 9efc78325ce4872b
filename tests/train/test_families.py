"""docs/families.md says what was found, and nothing else."""

from __future__ import annotations

import re

import pytest
import torch
import transformers
from families import FAMILIES, HEAD, ROW, examine, make

PAPER_AND_ISSUE = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2", "phi3", "glm4", "gpt_neox", "gpt2", "opt")


@pytest.fixture(scope="module")
def page(request):
    return (request.config.rootpath / "docs/families.md").read_text()


def test_the_page_has_every_family_and_those_of_the_recipe_are_whole(page):
    assert re.findall(r"^\| `(\w+)`", page, re.M) == list(FAMILIES)
    for family in PAPER_AND_ISSUE:
        assert re.search(rf"^\| `{family}` \| `.*` \| yes \| yes \| yes \|$", page, re.M), family


@pytest.mark.parametrize("family", [f if f in ("glm4", "lfm2", "stablelm") else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES])
def test_its_row_is_what_is_found(page, family):
    if HEAD.format(transformers=transformers.__version__) not in page:
        pytest.skip(f"the page was written with another transformers than {transformers.__version__}")
    torch.set_num_threads(1)
    assert examine(family).row in page.splitlines()


KINDS = {
    "sliding_window": 64,
    "window_size": 64,
    "attention_chunk_size": 64,
}  # what limits how far back a layer sees, and wide enough for all


def limited(family):
    return next((key for key in KINDS if key in FAMILIES[family]), None)


def test_families_with_windows_and_chunks_are_tried_with_them():
    assert {"gemma2", "gemma3_text", "gpt_neo", "gpt_oss", "llama4_text", "mistral", "olmo3", "phi3", "starcoder2"} <= set(
        filter(limited, FAMILIES)
    )
    assert "conv" in FAMILIES["lfm2"]["layer_types"]


@pytest.mark.parametrize("family", [*filter(limited, FAMILIES)])
def test_the_documents_reach_beyond_the_windows_and_chunks(family):
    """Else what the page says of them would be of plain attention."""
    key, ids = limited(family), torch.tensor([max(ROW, key=len)])
    with torch.no_grad():
        narrow, wide = (make(family, **changes).eval()(ids).logits[0] for changes in ({}, {key: KINDS[key]}))
    seen = FAMILIES[family][key]
    assert torch.allclose(narrow[:seen], wide[:seen], atol=1e-4) and (narrow[seen:] - wide[seen:]).abs().max() > 0.05
