"""Every parser that reads bytes of others, fed with bytes that nobody would send.

Two oracles: no exception but those that a parser names, and no work out of proportion to the input. `targets.py` lists
the parsers, `corpus/` has what to begin with and what was found, `pump.py` is the second oracle. `make test` runs
fifty new inputs of each, `make fuzz SECONDS=600` follows the code that they reach, with atheris.
"""
