"""Chapter 12: anchor functions. One module per group of figures; each declares its `REPRODUCTIONS`."""
