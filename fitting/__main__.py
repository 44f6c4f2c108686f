"""``python -m fitting``: the command line, where its script is not on the path."""

from ._command import main

raise SystemExit(main())
