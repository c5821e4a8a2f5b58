"""One file = one architecture. Importing a file registers nothing; the registry collects its `ARCHITECTURE`."""
