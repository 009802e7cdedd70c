"""The paper's analyses of a data set, and its figures (notebooks 10 to 13)."""
