"""``python -m tunewise``: the command line where no script was installed."""

from tunewise.cli.main import main

if __name__ == "__main__":
    main()
