"""``python -m tunewise.cli``: the command line where no script was installed."""

from tunewise.cli.main import main

main()
