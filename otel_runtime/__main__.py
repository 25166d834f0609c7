"""`python -m otel_runtime` is the console script."""

from __future__ import annotations

import sys

from otel_runtime.cli.main import main

sys.exit(main())
