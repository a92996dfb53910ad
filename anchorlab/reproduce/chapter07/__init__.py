"""Chapter 7: the phase diagram of two-layer ReLU nets. One module per group of figures, each with `REPRODUCTIONS`."""
