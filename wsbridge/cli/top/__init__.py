"""`wsbridge top`: the console's numbers in a terminal."""
