"""Build the documentation: ``python docs/build.py`` (with ``--gallery`` the examples are run too)."""

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "_build" / "html")
    parser.add_argument(
        "--gallery", action="store_true", help="run the examples of the gallery, which needs the extra `gallery`"
    )
    args = parser.parse_args()
    if args.gallery:
        os.environ["PROBE_GALLERY"] = "1"
    from sphinx.cmd.build import main as sphinx

    # -W: a broken reference is an error; -E: no stale state
    options = ["-W", "--keep-going", "-E", "-q", "-b", "html"]
    tags = ["-t", "gallery"] if args.gallery else []
    return sphinx([*options, *tags, str(Path(__file__).parent), str(args.output)])


if __name__ == "__main__":
    sys.exit(main())
