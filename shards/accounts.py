"""The accounts of a run: plan and ledger opened together, summed, and proved."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from shards.accountant import SourceAccount, total_unique
from shards.errors import DatasetError
from shards.ledger import LedgerEntry, read_ledger, verify
from shards.plan import Plan
from shards.plan_file import load_plan
from shards.reader import Dataset
from shards.tracing import streams_of


@dataclass(frozen=True)
class Accounts:
    """A run's plan and the ledger entries up to a step."""

    run: Path
    plan: Plan
    addresses: dict[str, str]
    """Of the dataset of every source."""
    entries: list[LedgerEntry]

    @property
    def steps(self) -> int:
        """Steps in the ledger."""
        return len(self.entries)

    @property
    def masked_targets(self) -> int:
        """Targets that did not count in the loss."""
        return sum(entry.masked_targets for entry in self.entries)

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """Dataset of every source, opened when first asked for; files are checked when read."""
        return {name: Dataset.open(address, check=True) for name, address in self.addresses.items()}

    @cached_property
    def sources(self) -> list[SourceAccount]:
        """What was read of every source."""
        return self.plan.account(self.steps)


def read_accounts(run: Path, step: int | None) -> Accounts:
    """Open the accounts of a run, up to `step` or as far as it got.

    Raises:
        DatasetError: no run there, or it has not come that far.
    """
    plan, addresses = load_plan(run / "plan.json")
    entries = list(read_ledger(run))
    if step is not None and not 0 <= step <= len(entries):
        raise DatasetError(f"{run}: step {step} asked for, the ledger has {len(entries)} steps")
    return Accounts(run, plan, addresses, entries[:step])


def verify_run(books: Accounts, tokens: bool) -> Iterator[str]:
    """Compare the ledger with the plan; yields every difference.

    Args:
        books: the accounts.
        tokens: read the tokens of every step again and compare their digest too.
    """
    streams = streams_of(books.plan, books.datasets) if tokens else None
    for differences in verify(books.plan, books.entries, streams):
        yield from differences


def require_proved(books: Accounts, problems: list[str]) -> None:
    """Raise DatasetError with the differences found, if there are any."""
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:20])
        raise DatasetError(
            f"{books.run}: the ledger does not match the plan in {len(problems)} place(s)\n{shown}"
        )


def as_json(books: Accounts, problems: list[str] | None) -> dict[str, Any]:
    """The accounts as JSON values; `proved` only where they were verified."""
    sources = {
        account.name: {
            "windows": account.windows,
            "tokens": account.tokens,
            "unique_tokens": account.unique_tokens,
            "duplicate_tokens": account.duplicate_tokens,
            "epochs": float(account.epochs),
            "epochs_exact": str(account.epochs),
            "available_tokens": account.available_tokens,
            "tail_tokens": account.tail_tokens,
        }
        for account in books.sources
    }
    totals = {
        "plan_id": books.plan.plan_id,
        "steps": books.steps,
        "planned_steps": books.plan.num_steps,
        "tokens": sum(account.tokens for account in books.sources),
        "unique_tokens": total_unique(books.sources),
        "duplicate_tokens": sum(account.duplicate_tokens for account in books.sources),
        "masked_targets": books.masked_targets,
        "sources": sources,
    }
    return totals if problems is None else totals | {"proved": not problems, "problems": problems}
