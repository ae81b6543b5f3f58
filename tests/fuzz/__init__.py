"""Feeds every parser of untrusted bytes with damaged input.

Two oracles: a parser raises only the exceptions that it documents, and its work grows in proportion to the input.
`targets.py` lists the parsers, `corpus/` has the first inputs and the findings, `pump.py` is the second oracle. `make
test` runs fifty new inputs of each; `make fuzz SECONDS=600` searches with atheris, guided by coverage.
"""
