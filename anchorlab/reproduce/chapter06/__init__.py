"""Chapter 6: why the frequency principle holds. One module per figure; each declares its `REPRODUCTIONS`."""
