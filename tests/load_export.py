"""Use exported folders as whoever downloads them does; needs nothing but torch and transformers.

    PYTHONPATH=<another transformers> python tests/load_export.py FOLDER...

Where a FOLDER holds, beside the export, expected.safetensors with `tokens` [B, T] and the trainer's
`logits` [B, T, V], these are compared too.
"""

import math
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file


def check(folder: Path) -> float:
    """Logits, batched generation with padding, beams and the pipeline; the furthest logit."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    difference = math.nan
    if (folder / "expected.safetensors").exists():
        expected = load_file(folder / "expected.safetensors")
        with torch.inference_mode():
            difference = (model(expected["tokens"]).logits - expected["logits"]).abs().max().item()
        assert difference < 1e-4, f"logits differ by {difference}"
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        folder, padding_side="left", trust_remote_code=True
    )
    _check_generation(model, tokenizer)
    pipe = transformers.pipeline("text-generation", model=str(folder), trust_remote_code=True)
    (answer,) = pipe("Return the mean", max_new_tokens=5)
    assert answer["generated_text"].startswith("Return the mean")
    return float(difference)


def _check_generation(model: torch.nn.Module, tokenizer: object) -> None:
    """The same greedy text alone and in a padded batch, with the cache and without it."""
    texts = ["Return", "Return the number of items that are found in"]
    settings = {"max_new_tokens": 12, "do_sample": False}
    batch = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)  # type: ignore[operator]
    padded = model.generate(**batch, **settings)  # type: ignore[operator]
    beams = model.generate(**batch, **settings, num_beams=3)  # type: ignore[operator]
    assert beams.shape[0] == 2
    for text, row in zip(texts, padded, strict=True):
        ids = tokenizer(text, return_tensors="pt", return_token_type_ids=False)  # type: ignore[operator]
        for use_cache in (True, False):
            alone = model.generate(**ids, **settings, use_cache=use_cache)[0]  # type: ignore[operator]
            new = alone[ids["input_ids"].shape[1] :]
            found = row[batch["input_ids"].shape[1] :][: len(new)]
            assert found.tolist() == new.tolist(), (text, use_cache)


def main() -> None:
    """Check what the command line names."""
    import transformers

    for folder in sys.argv[1:]:
        print(f"transformers {transformers.__version__}: {folder}: {check(Path(folder)):.2g}")


if __name__ == "__main__":
    main()
