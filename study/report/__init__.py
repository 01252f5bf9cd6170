"""Tables, claims and figures as pages for people."""
