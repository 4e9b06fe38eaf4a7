"""Packed token datasets: format, manifest, reading, the plan of what is read when, its ledger."""
