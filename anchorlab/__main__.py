"""`python -m anchorlab` is the `anchorlab` command."""

from anchorlab.cli import main

main()
