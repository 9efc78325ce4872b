"""Small tokenizers of the kinds that exist, and small random models of the families that exist, as folders plain transformers loads."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

transformers.logging.set_verbosity_error()

CORPUS = [
    "Once upon a time there was a little girl named Lily. She loved to play outside in the park.",
    "How do I keep basil fresh? Trim the stems and stand them in a glass of water, like cut flowers.",
    "def add(a, b):\n    return a + b  # two   spaces\n\n- one\n- two\n",
    "Grüße aus Köln, 東京 и Москва: ½ €, naïve, it's 12,345.67!",
] * 3

TOKENIZERS = ("byte", "byte_bos", "prepend_bos", "metaspace_first_bos", "metaspace_always", "lowercase_words")


def make_tokenizer(kind: str) -> Any:
    """A tokenizer trained on CORPUS. "_bos" kinds put <s> before a text by themselves."""
    specials = ["<unk>", "<s>", "</s>"]
    byte_level = kind.startswith("byte")
    if kind == "lowercase_words":  # a normaliser that changes the text, as uncased models have
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w]"), "isolated")
        trainer: Any = trainers.WordLevelTrainer(vocab_size=400, special_tokens=specials, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE(unk_token=None if byte_level else "<unk>", byte_fallback=not byte_level, fuse_unk=not byte_level))
        alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
        specials += [] if byte_level else [f"<0x{i:02X}>" for i in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
        if byte_level:
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
        elif kind.startswith("prepend"):
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
            strip = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
            tokenizer.decoder = decoders.Sequence(strip)
        else:
            scheme = "first" if "first" in kind else "always"
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
            strip = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
            tokenizer.decoder = decoders.Sequence(strip)
    tokenizer.train_from_iterator(CORPUS, trainer)
    if not byte_level and kind != "lowercase_words":
        _make_bytes_ordinary(tokenizer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in ("<unk>", "<s>", "</s>")])
    if kind.endswith("_bos"):
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _make_bytes_ordinary(tokenizer: Tokenizer) -> None:
    """The byte tokens belong to the model's vocabulary; only the trainer made them special."""
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer.__setstate__(json.dumps(state).encode())


_SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64}
_GROUPED = _SMALL | {"num_key_value_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "mistral": _GROUPED | {"sliding_window": 4},
    "qwen2": _GROUPED | {"tie_word_embeddings": False},
    "qwen3": _GROUPED | {"head_dim": 8},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64},
    "gpt_neox": _SMALL,
    "opt": {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "word_embed_proj_dim": 32,
            "max_position_embeddings": 64},
    "gemma2": _GROUPED | {"head_dim": 8},
    "gemma3_text": _GROUPED | {"head_dim": 8},
    "olmo2": _GROUPED,
    "bloom": {"hidden_size": 32, "n_layer": 3, "n_head": 4},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 3},
}  # fmt: skip


def make_model(family: str = "llama", vocabulary: int = 97, seed: int = 0, **changes: Any) -> Any:
    """A random model with larger weights than usual, so that what leaks from one place to another shows."""
    torch.manual_seed(seed)
    settings = {"vocab_size": vocabulary, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.2}
    config = transformers.CONFIG_MAPPING[family](**(settings | FAMILIES[family] | changes))
    return AutoModelForCausalLM.from_config(config)


def save_base(folder: Path, tokenizer_kind: str = "byte_bos", family: str = "llama", **changes: Any) -> Path:
    """A base model as a folder."""
    tokenizer = make_tokenizer(tokenizer_kind)
    make_model(family, vocabulary=len(tokenizer), **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_workspace(folder: Path, *, examples: int = 20, response_words: int = 12, base: Path | None = None, **train: Any) -> Path:
    """A workspace with data/train.jsonl, a recipe of small settings and a base beside it."""
    draw = random.Random(0)
    words = " ".join(CORPUS[:2]).split()
    rows = []
    for i in range(examples):
        texts = [" ".join(draw.choices(words, k=draw.randint(2, n))) for n in (6, response_words, 4, 5)[: 4 if i % 5 == 0 else 2]]
        turns = [{"role": "user" if k % 2 == 0 else "assistant", "text": text} for k, text in enumerate(texts)]
        rows.append({"id": f"ex-{i}", "source": "tiny", "turns": turns})
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if base is None:
        base = save_base(folder / "base", max_position_embeddings=128)
    spec = {"epochs": 3, "batch_examples": 8, "max_tokens": 96, "lr": [3e-3, 3e-4], "residual_dropout": 0.2, "device": "cpu"} | train
    lines = [f"{key} = {json.dumps(value)}" for key, value in spec.items()]
    recipe = ['name = "tiny"', "[model]", f"base = {json.dumps(base.name if base.parent == folder else str(base))}", "[train]", *lines]
    (folder / "lima.toml").write_text("\n".join(recipe) + "\n")
    return folder
