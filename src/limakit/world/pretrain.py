"""The base model of the miniature world: a byte-level BPE tokenizer and a small LLaMA, trained from nothing on the corpus."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers import logging as transformers_logging

from ..model.attention import attach_packing
from ..model.head import attach_loss_head
from ..model.save import rust_io_errors
from ..progress import Progress, say
from ..train.optimizer import linear_lr, make_optimizer
from ..train.steps import Document, plan_steps
from ..train.update import run_steps
from ..workspace import atomic_dir, is_done, sha256_tree, write_json, write_manifest
from .corpus import documents
from .facts import World

BOS, EOS = "<s>", "</s>"
CONTEXT = 512  # positions; the longest document has about 200 tokens
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Pretraining:
    """How the base is made. The defaults take about a minute and a half of one core; smaller ones learn fewer of the facts."""

    documents: int = 9_000
    epochs: int = 2
    batch_documents: int = 20  # about 1,100 tokens a step
    vocabulary: int = 1536
    width: int = 128
    layers: int = 4
    heads: int = 4
    inner: int = 344  # of the MLP
    lr: tuple[float, float] = (3e-3, 1.5e-4)
    warm_up: int = 20  # steps
    precision: str = "float32"  # bfloat16 is a quarter quicker where the processor has it, and many times slower where it has not


def pretrain(folder: Path, world: World, how: Pretraining = Pretraining()) -> Path:
    """Make the base in `folder`, which plain transformers loads; nothing to do where the same one lies there. Returns the folder.

    Deterministic on one kind of processor with the same number of threads. The folder appears whole or not at all.
    """
    texts = list(documents(world, how.documents))
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    settings, inputs = {"seed": world.seed, "people": len(world.people), **_plain(how)}, {"corpus": digest}
    if is_done(folder / MANIFEST, settings=settings, inputs=inputs):
        say(f"{folder} is there, made from the same corpus; nothing to do")
        return folder
    tokenizer = make_tokenizer(texts, how.vocabulary)
    model = _train(tokenizer, texts, how, world.seed)
    transformers_logging.disable_progress_bar()
    with atomic_dir(folder) as part, rust_io_errors():
        model.save_pretrained(part)
        (part / "model.safetensors").chmod(0o644)  # as the files beside it; safetensors makes it private
        tokenizer.save_pretrained(part)
        write_json(part / "world.json", {"seed": world.seed, "people": len(world.people)})
        write_manifest(
            part / MANIFEST, stage="pretrain", settings=settings, inputs=inputs, outputs=sha256_tree(part),
            packages=("tokenizers", "torch", "transformers"),
        )  # fmt: skip
    return folder


def _plain(how: Pretraining) -> dict[str, Any]:
    return asdict(how) | {"lr": list(how.lr)}


def make_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer (every text can be encoded) that begins texts with BOS, as LLaMA's does."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[BOS, EOS], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, backend.token_to_id(BOS))])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=EOS, clean_up_tokenization_spaces=False, model_max_length=CONTEXT
    )


def _train(tokenizer: PreTrainedTokenizerFast, texts: list[str], how: Pretraining, seed: int) -> LlamaForCausalLM:
    """Plain language modelling: BOS, document, EOS, a loss on every token."""
    rows = [(*ids, tokenizer.eos_token_id) for ids in tokenizer(texts)["input_ids"]]
    corpus = [Document(f"document {i}", ids, (False, *(True,) * (len(ids) - 1))) for i, ids in enumerate(rows)]
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=how.width, intermediate_size=how.inner, num_hidden_layers=how.layers,
        num_attention_heads=how.heads, num_key_value_heads=how.heads, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(seed)
    model: Any = LlamaForCausalLM(config)
    own = model.config._attn_implementation
    attach_packing(model, how.precision, longest=max(len(ids) for ids in rows))
    attach_loss_head(model)
    budget = max(len(ids) for ids in rows) * how.batch_documents  # a step is one row: the model is small
    steps = plan_steps(
        [len(ids) for ids in rows], epochs=how.epochs, batch_examples=how.batch_documents, budget=budget, pack=True, seed=seed
    )
    logs = run_steps(
        model, make_optimizer(model, (0.9, 0.95), 0.1), corpus, steps,
        lr=lambda step: min(1.0, step / how.warm_up) * linear_lr(how.lr, step, len(steps)),
        clip_norm=1.0, seed=seed, packed=True, precision=how.precision,
    )  # fmt: skip
    with Progress("pretrain", len(steps), "steps") as bar:
        for log in logs:
            bar.advance(1, loss=f"{log.loss:.2f}")
    model.set_attn_implementation(own)
    return model.eval()
