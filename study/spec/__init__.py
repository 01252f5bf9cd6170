"""What is to be run, and how it is read: parameters, runs, code, results."""
