"""Speed, side by side; run by `make bench`."""
