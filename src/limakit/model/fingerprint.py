"""What a checkpoint is: the hashes of the files that decide what the model does, or the hub's commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..workspace import sha256_file

# configuration, weights (of an adapter: and the fingerprint of its base) and tokenizer; a README beside them changes nothing
DECIDE = (
    "*config.json", "base.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab*", "merges*", "*tokens*.json", "chat_template*",
    "*.model", "*.tiktoken", "*.bpe",
)  # fmt: skip
CODE = "**/*.py"  # which a model with code of its own brings along


def fingerprint(folder: str, config: Any) -> dict[str, str]:
    """Hashes by file name of a checkpoint's folder; of a hub id {"commit": ...}, which `config` was loaded with."""
    path = Path(folder)
    if not path.is_dir():
        return {"commit": str(getattr(config, "_commit_hash", None))}
    files = {file for pattern in (*DECIDE, CODE) for file in path.glob(pattern) if file.is_file()}
    names = {str(file.relative_to(path)): file for file in files}
    return {name: sha256_file(names[name]) for name in sorted(names) if not any(part.startswith(".") for part in Path(name).parts)}
