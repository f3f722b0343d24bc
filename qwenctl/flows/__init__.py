"""The data paths, one function each: a list of nouns, each made from the one before."""
