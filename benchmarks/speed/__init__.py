"""How fast this project is against its peers: `python -m benchmarks.speed`."""
