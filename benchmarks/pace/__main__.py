"""`python -m benchmarks.pace`, or `python benchmarks/pace` from anywhere."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pace.command import main

if __name__ == "__main__":
    main()
