"""The terminal's table of duplicates, from a manifest written out."""

from rich.console import Console

from shards.duplicates_view import duplicates_tables

FACTS = {
    "documents_in": 1260,
    "dropped_exact": 40,
    "dropped_near": 30,
    "dropped_held_exact": 1,
    "dropped_held_near": 0,
    "clusters": 61,
    "cluster_sizes": {"2": 51, "3": 9, "200": 1},
    "priority": ["c4", "web"],
    "against": [{"dataset_id": "14ab", "name": "old", "documents": 9, "decoded_differently": 0}],
    "overlap": {
        "web": {
            "c4": {"documents": 69, "characters": 420},
            "14ab/c4": {"documents": 1, "characters": 7},
        },
        "c4": {"c4": {"documents": 1, "characters": 5}},
    },
}


def test_who_repeats_whom() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        for table in duplicates_tables(FACTS):
            console.print(table)
    lines = capture.get().splitlines()
    assert lines[:4] == [
        "Duplicates: 40 exact, 30 near, 1 held exact of 1,260 documents",
        "in 61 clusters, the kept document included: 51 of 2, 9 of 3, 1 of 100 or more",
        "the copy is kept in this order: c4, web",
        "against old, dataset 14ab: 9 documents",
    ]
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        ["web", "c4", "69", "420"],
        ["", "14ab/c4", "1", "7"],
        ["c4", "c4", "1", "5"],
    ]


def test_nothing_where_nothing_was_dropped() -> None:
    assert list(duplicates_tables({})) == []
    assert list(duplicates_tables(FACTS | {"overlap": {}})) == []
