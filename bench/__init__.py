"""What `make bench` runs: each module prints a table and writes it, as text and JSON, under outputs/bench/."""
