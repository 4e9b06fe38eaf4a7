"""`make lock`: print every installed distribution with its version, for constraints.txt.

Local build tags are dropped (`torch==2.13.0`, never `+cpu`), so that a pin fits any build of a
package and the index chooses which.
"""

from importlib.metadata import distributions

SKIPPED = {"pip", "setuptools", "tallylm"}


def pins() -> list[str]:
    """Sorted `name==version` lines."""
    found = {d.metadata["Name"].lower(): d.version.split("+")[0] for d in distributions()}
    return [f"{name}=={version}" for name, version in sorted(found.items()) if name not in SKIPPED]


if __name__ == "__main__":
    print("\n".join(pins()))
