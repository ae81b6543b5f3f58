"""`python -m wsbridge`: the same as the `wsbridge` command."""

from wsbridge.cli.cli import main

if __name__ == "__main__":
    main()
