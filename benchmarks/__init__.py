"""How fast and how small the project is: `python -m benchmarks`, one module a row of README.md."""
