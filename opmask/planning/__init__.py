"""What params.yaml asks for: runs, their plan, their state and how long they take."""
