"""Chapter 15: differential equations. One module per group of results; each declares its `REPRODUCTIONS`."""
