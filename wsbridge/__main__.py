"""`python -m wsbridge`: the same as the `wsbridge` command."""

from wsbridge.cli.main import main

if __name__ == "__main__":
    main()
