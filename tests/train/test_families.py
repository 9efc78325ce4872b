"""docs/families.md says what was found, and nothing else."""

from __future__ import annotations

import re

import pytest
import torch
import transformers
from families import FAMILIES, HEAD, examine

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
