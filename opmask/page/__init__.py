"""`reports/<scale>/index.html`: one file that shows everything, without network or server."""
