"""Chapter 8: condensation. One module per group of figures; each declares its `REPRODUCTIONS`."""
