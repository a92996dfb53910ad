"""Chapter 13: reasoning and memorising. One module per group of figures; each declares its `REPRODUCTIONS`."""
