"""Chapter 4: the frequency principle. One module per group of figures; each declares its `REPRODUCTIONS`."""
