"""Goes on with a call that was approved after its process had gone: `resume.py REQUEST_ID`, started in the workspace."""

from __future__ import annotations

import argparse
import sys

import tools

import otel_runtime as rt

__all__: list[str] = []


def main() -> int:
    """Resume one request; 0 when its tool ran, 1 when it was refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("request_id", help="as `otel-runtime approvals list` shows it")
    options = parser.parse_args()
    # Importing the tools registers them: that is how `resume` finds the function.
    print(f"{len(tools.__all__)} tools registered")
    try:
        with rt.configure() as runtime:
            print(f"done: {runtime.resume(options.request_id)}")
    except rt.OtelRuntimeError as error:
        print(f"refused: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
