"""Draw what `cpu_per_record.py --json FILE` wrote: CPU a record by path and size of answer."""

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt


def main() -> None:
    """Draw to an image file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path)
    parser.add_argument("image", type=Path, help="its suffix says the format: .svg, .png")
    options = parser.parse_args()
    written = json.loads(options.json.read_text(encoding="utf-8"))
    figures = written["figures"]
    paths = list(next(iter(figures.values())))
    figure, axes = plt.subplots(figsize=(8, 5))
    for path in paths:
        found = {name: runs[path] for name, runs in figures.items() if path in runs}
        axes.plot(
            list(found), [run["cpu_us_per_record"] for run in found.values()], "o-", label=path
        )
    axes.set_yscale("log")
    axes.set_ylabel("CPU µs/record")
    axes.set_xlabel("dialect, records an answer")
    axes.set_title(written["machine"], fontsize=8)
    axes.legend()
    figure.tight_layout()
    figure.savefig(options.image)


if __name__ == "__main__":
    main()
