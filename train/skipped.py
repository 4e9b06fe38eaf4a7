"""The documents behind a step whose gradient was not finite: the first place to look."""

from shards.tracing import trace_step
from train.run_data import run_datasets
from train.session import Session

_SHOWN = 8


def documents_of(session: Session, step: int) -> str:
    """The documents of a step in words: the first few by id, and how to see them all."""
    datasets = run_datasets(session.run_dir)
    passages = trace_step(session.plan, datasets, step, most_tokens=1)
    ids = list(dict.fromkeys(passage.doc_id for passage in passages))
    rest = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"it read {', '.join(ids[:_SHOWN])}{rest} (tally trace {session.run_dir} --step {step})"
