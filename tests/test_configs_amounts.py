"""Numbers as people read them."""

import pytest

from configs.terminal import amount, human, human_bytes, progress


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (12, "12"), (999.4, "999"), (999.7, "1k"), (1234567, "1.23M"), (-2500, "-2.5k"),
     (999_999, "1M"), (3e9, "3B"), (1e15, "1e+15")],
)  # fmt: skip
def test_numbers_have_four_digits_at_most(value: float, said: str) -> None:
    assert human(value) == said


def test_bytes_are_in_the_multiple_that_fits() -> None:
    sizes = [human_bytes(size) for size in (12, 1500, 1.5e9, 2e12)]
    assert sizes == ["12 bytes", "1.5 kB", "1.5 GB", "2 TB"]
    assert (amount(1020, "MB"), amount(0.3, "MB")) == ("1.02 GB", "300 kB")
    assert amount(22_000, "documents") == "22k documents"


@pytest.mark.parametrize(
    ("done", "total", "unit", "said"),
    [(300, 364, "MB", "x: 300 of 364 MB, "), (1020, 1020, "MB", "x: 1.02 GB of 1.02 GB, "),
     (40, 40, "documents", "x: 40 of 40 documents, "), (7, None, "MB", "x: 7 MB, ")],
)  # fmt: skip
def test_a_line_of_progress(
    done: float, total: float | None, unit: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("x", total, unit) as bar:
        bar.advance(done)
    assert capsys.readouterr().out.startswith(said)
