"""``python -m tunewise``: the same as the command ``tunewise``."""

from tunewise.cli.main import main

if __name__ == "__main__":
    main()
