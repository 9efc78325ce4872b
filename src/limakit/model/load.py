"""Load a causal LM and its tokenizer, from a folder or the hub, or say in one message why not.

A checkpoint is loaded whole or refused: transformers alone would fill missing weights with random numbers and only warn.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ..errors import LimakitError, UsageError

Device = Literal["auto", "cpu", "cuda"]
ADAPTER_CONFIG = "adapter_config.json"  # what makes a folder an adapter's


def find_folder(name: str | Path, root: Path | None = None) -> Path | None:
    """The folder that `name` means: relative to `root`, else to the current folder; None if there is neither."""
    path = Path(name).expanduser()
    return next((folder for folder in ([root / path] if root is not None else []) + [path] if folder.is_dir()), None)


def locate(name: str, root: Path | None = None) -> str:
    """The folder that `name` means (`find_folder`), else `name` as a hub id.

    Raises LimakitError where `name` can only be a path and nothing is there.
    """
    folder = find_folder(name, root)
    if folder is not None:
        return str(folder)
    path = Path(name).expanduser()
    if path.is_absolute() or name.startswith((".", "~")) or len(path.parts) != len(name.split("/")) or len(path.parts) > 2:
        raise LimakitError("no such folder", where=name, remedy="check model.base in the recipe, or the path on the command line")
    return name


def _quiet() -> None:
    """Only limakit.progress speaks: transformers' bars and notes (resized embeddings, generation flags) go, and what bitsandbytes, which peft
    imports where it is installed, says of kernels that nothing here uses."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def refusal(what: str, name: str, error: Exception) -> LimakitError:
    """What a user reads where transformers or safetensors gave up."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0][:300] if lines and not isinstance(error, KeyError) else f"unreadable ({type(error).__name__} {error})"
    if "is not a local folder" in str(error) or "offline" in str(error).lower() or "couldn't connect" in str(error).lower():
        reason = "neither a folder here nor a model on the hub that can be reached"
    remedy = (
        "name a folder with config.json, *.safetensors and a tokenizer, or a hub id you have access to; if it was copied, copy it again"
    )
    if "trust_remote_code" in str(error):
        reason, remedy = "it brings code of its own", "if you have read that code and trust it, set trust_remote_code = true under [model]"
    return LimakitError(f"cannot load {what}: {reason}", where=name, remedy=remedy)


def load_config(name: str, *, root: Path | None = None, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The model's configuration alone (no weights are read)."""
    _quiet()
    folder = locate(name, root)
    try:
        return AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=trust_remote_code)
    except (MemoryError, ModuleNotFoundError):
        raise
    except Exception as error:  # transformers raises whatever its parsers raise
        raise refusal("the model's configuration", name, error) from error


def load_tokenizer(name: str, *, root: Path | None = None, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The model's tokenizer. Raises LimakitError if it is absent or unreadable."""
    _quiet()
    folder = locate(name, root)
    try:
        return AutoTokenizer.from_pretrained(folder, revision=revision, trust_remote_code=trust_remote_code)
    except (MemoryError, ModuleNotFoundError):
        raise
    except Exception as error:
        raise refusal("the tokenizer", name, error) from error


def load_causal_lm(
    name: str,
    *,
    root: Path | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: torch.device | str,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    local_only: bool = False,
) -> Any:
    """The model in eval mode on `device`. Raises LimakitError if it is absent, unreadable or incomplete.

    Only safetensors are read: the older .bin files are pickles. `local_only` downloads nothing. `dtype` "auto" is the one it is kept in. An
    adapter's folder gives its base with the adapter merged into it (adapter.py), for "auto" in float32, as the adapter is kept.
    """
    _quiet()
    folder = locate(name, root)
    if (Path(folder) / ADAPTER_CONFIG).is_file():
        from .adapter import load_merged  # which loads the base through here

        return load_merged(
            Path(folder), root=root, trust_remote_code=trust_remote_code, device=device, local_only=local_only,
            dtype=torch.float32 if dtype == "auto" else dtype,
        )  # fmt: skip
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            revision=revision,
            trust_remote_code=trust_remote_code,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=local_only,
        )
    except (MemoryError, ModuleNotFoundError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise refusal("the model", name, error) from error
    missing = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise LimakitError(
            f"cannot load the model: its files lack weights, or have them in another shape ({shown})",
            where=name,
            remedy="it is incomplete or not a causal LM of its config.json; copy or export it again",
        )
    return model.to(device).eval()


def empty_causal_lm(name: str, *, root: Path | None = None, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The model that `load_causal_lm` loads, float32, without values: on the "meta" device."""
    config = load_config(name, root=root, revision=revision, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code, dtype=torch.float32).eval()


def pick_device(choice: Device) -> torch.device:
    """The device to run on: "auto" takes a GPU where there is one. Raises UsageError for a GPU that is not there."""
    if choice == "cuda" and not torch.cuda.is_available():
        raise UsageError('device = "cuda", but PyTorch sees no GPU here', remedy='use device = "cpu" or "auto", or install torch for CUDA')
    use_cuda = choice == "cuda" or (choice == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_cuda else "cpu")


def context_length(config: Any) -> int | None:
    """The most tokens the model has positions for; None where its configuration names no limit."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    for key in ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx"):
        value = getattr(text, key, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def longrope_length(config: Any) -> int | None:
    """The length beyond which "longrope" rotary embeddings turn every position of a batch by other factors; None for other embeddings."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [kind for kind in (rope, *rope.values()) if isinstance(kind, dict) and kind.get("rope_type") == "longrope"]
    lengths = [kind.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None) for kind in kinds]
    return min((int(length) for length in lengths if length), default=None)
