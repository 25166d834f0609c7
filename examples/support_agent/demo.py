"""The demo: an agent works through a support inbox under a policy, and everything it tells is checked afterwards.

    python demo.py                 asks you to approve the large refund, when you sit at a terminal
    python demo.py --unattended    answers by itself

Exit code 0 only when every check holds.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # The first line comes before the imports, which may take a moment on a cold disk.
    print("otel-runtime demo: a support agent, its policy, an approval and the trace", flush=True)
    from story import main

    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped")
